"""Detectors with weights, by the library's own function: whose classes count, and what is refused."""

import pytest
import torch
from torchvision.models import get_model, resnet18
from torchvision.models.detection import ssd300_vgg16

import striate
from striate.config import Layer, TrainSettings, resolve
from striate.data.preprocess import Preprocessing
from striate.errors import ModelFileError, UsageError
from striate.models.detectors.catalog import DETECTORS, create_detector
from striate.models.weights import from_ours
from striate.runs.detector_weights import start_from
from striate.runs.model_file import Card, write_model
from striate.runs.prepare import prepare, usual_clean_epochs
from striate.tasks.detection import Detection


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "ssd.pth"
    torch.save(ssd300_vgg16(weights=None, weights_backbone=None, num_classes=6).state_dict(), path)
    return path


def test_the_checkpoint_says_how_many_classes_there_are(checkpoint):
    network = striate.create("ssd300", weights=checkpoint)
    assert network.classes == 5  # torchvision counts background
    theirs = torch.load(checkpoint, weights_only=True)
    assert torch.equal(
        network.state_dict()["head.logits.0.bias"], theirs["head.classification_head.module_list.0.bias"]
    )


def test_another_number_of_classes_is_asked_for_in_words(checkpoint):
    with pytest.raises(UsageError, match="is for 5 classes, not 3"):
        striate.create("ssd300", weights=checkpoint, classes=3)
    assert striate.create("ssd300", weights=checkpoint, classes=3, new_head=True).classes == 3


def _published(name, path):
    """A checkpoint with torchvision's names and shapes that takes no room."""
    with torch.device("meta"):
        state = get_model(name, weights=None, weights_backbone=None).state_dict()
    torch.save({key: torch.zeros((), dtype=of.dtype).expand(of.shape) for key, of in state.items()}, path)
    return path


@pytest.mark.parametrize("there", ["fasterrcnn_resnet50_fpn_v2", "maskrcnn_resnet50_fpn"])
def test_a_detector_that_is_not_here_is_refused_with_those_that_load(tmp_path, there):
    path = _published(there, tmp_path / "w.pth")
    with torch.device("meta"):
        network = create_detector("faster_rcnn", classes=2, channels=3, size=(128, 128))
    for origin in (None, "torchvision"):
        settings = TrainSettings(
            task="detection", model="faster_rcnn", backbone="resnet50", weights=str(path), origin=origin
        )
        with pytest.raises(ModelFileError, match=r"no counterpart here.*Nothing of it is taken: .* fcos_resnet50_fpn"):
            start_from(network, settings, ("a", "b"))


def test_another_detectors_checkpoint_says_whose_it_is(tmp_path):
    path = _published("fasterrcnn_resnet50_fpn", tmp_path / "w.pth")
    with torch.device("meta"):
        network = create_detector("fcos", classes=2, channels=3, size=(128, 128))
    settings = TrainSettings(task="detection", model="fcos", backbone="resnet50", weights=str(path))
    with pytest.raises(ModelFileError, match="is a checkpoint of faster_rcnn by torchvision, not of fcos: name these"):
        start_from(network, settings, ("a", "b"))


def test_a_classifiers_weights_are_the_backbones(tmp_path):
    theirs = resnet18(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    network = striate.create(
        "retinanet", backbone="resnet18", classes=3, size=64, weights=tmp_path / "resnet18.pth", origin="torchvision"
    )
    assert any(torch.equal(theirs.conv1.weight, weight) for weight in network.backbone.parameters())


def test_a_backbone_is_for_detectors():
    with pytest.raises(UsageError, match="backbone='resnet18' is for detectors"):
        striate.create("resnet20", backbone="resnet18")
    with pytest.raises(UsageError, match="reads maps of the strides 8, 16, 32"):
        striate.create("retinanet", backbone="resnet20")


def test_a_class_that_the_weights_know_by_its_name_keeps_them(tmp_path):
    torch.manual_seed(0)
    theirs = ssd300_vgg16(weights=None, weights_backbone=None).state_dict()  # of COCO's 90 numbers and background
    torch.save(theirs, tmp_path / "coco.pth")
    network = create_detector("ssd300", classes=3, channels=3, size=(300, 300))
    fresh = network.state_dict()["head.logits.1.weight"].clone().unflatten(0, (6, 4))
    settings = TrainSettings(task="detection", model="ssd300", backbone="vgg16", weights=str(tmp_path / "coco.pth"))
    notes = start_from(network, settings, ("zebra", "gnu", "person"))
    assert notes == ("2 of 3 classes keep the weights that they had by their names",)
    found = network.state_dict()["head.logits.1.weight"].unflatten(0, (6, 4))
    trained = theirs["head.classification_head.module_list.1.weight"].unflatten(0, (6, 91))
    for here, there in ((0, 0), (1, 24), (3, 1)):  # background, and COCO's numbers of zebra and person
        assert torch.equal(found[:, here], trained[:, there])
    assert torch.equal(found[:, 2], fresh[:, 2])
    assert torch.equal(network.state_dict()["head.deltas.1.bias"], theirs["head.regression_head.module_list.1.bias"])


def _model_file(path, classes, seed=0, backbone="mobilenet_v3_small"):
    torch.manual_seed(seed)
    network = create_detector("retinanet", backbone=backbone, classes=len(classes), channels=3, size=(64, 64))
    task = Detection(network, classes)
    seen = Preprocessing(size=(64, 64), channels=3, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), resize="fit", fill=114)
    card = Card(
        model="retinanet", backbone=backbone, channels=3, size=(64, 64), task=task.to_json(), preprocessing=seen
    )
    write_model(path, task, card)
    return network


def test_a_model_file_says_its_model_backbone_input_and_classes(tmp_path):
    theirs = _model_file(tmp_path / "m.safetensors", ["1", "cat", "3"])
    resolved = resolve(
        Layer(source="argument", values={"data": "scenes", "weights": str(tmp_path / "m.safetensors"), "device": "cpu"})
    )
    prepared = prepare(resolved)
    settings = prepared.resolved.settings
    assert (settings.model, settings.backbone) == ("retinanet", "mobilenet_v3_small")
    assert {prepared.resolved.sources[name] for name in ("model", "backbone", "size", "normalise")} == {"weights"}
    assert prepared.preprocessing.mean == (0.1, 0.2, 0.3)
    assert prepared.preprocessing.size == (64, 64)
    assert prepared.weights == ("2 of 10 classes keep the weights that they had by their names",)
    places = [prepared.dataset.classes.index(name) for name in ("1", "3")]
    found = prepared.task.network.state_dict()["logits.bias"].unflatten(0, (9, 10))
    assert torch.equal(found[:, places], theirs.state_dict()["logits.bias"].unflatten(0, (9, 3))[:, [0, 2]])


def _prepared(checkpoint, **values):
    return prepare(resolve(Layer(source="argument", values={"data": "scenes", "weights": str(checkpoint), **values})))


def test_torchvisions_ssd_brings_its_own_input(checkpoint):
    for given in ({}, {"normalise": "checkpoint", "model": "ssd300"}):
        prepared = _prepared(checkpoint, **given)
        assert prepared.resolved.settings.model == "ssd300"
        seen = prepared.preprocessing
        assert seen.mean == (0.48235, 0.45882, 0.40784)
        assert seen.std == (1 / 255,) * 3
        assert (seen.size, seen.resize) == ((300, 300), "stretch")


def test_a_classifiers_normalisation_is_taken_for_a_backbone_too(tmp_path):
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    for given in ({}, {"normalise": "checkpoint"}):
        prepared = _prepared(tmp_path / "resnet18.pth", origin="torchvision", backbone="resnet18", **given)
        assert prepared.resolved.settings.normalise == "checkpoint"
        assert prepared.preprocessing.mean == (0.485, 0.456, 0.406)
        assert prepared.preprocessing.size == (128, 128)


def test_weights_of_several_detectors_or_of_another_task_are_refused_in_words(tmp_path):
    theirs = create_detector("detr", classes=2, channels=3, size=(64, 64)).state_dict()
    torch.save(from_ours(theirs, DETECTORS["detr"].origins["authors"]), tmp_path / "detr.pth")
    with pytest.raises(UsageError, match="may be of detr or detr_dc5: name the one that is meant with --model"):
        _prepared(tmp_path / "detr.pth")
    _model_file(tmp_path / "m.safetensors", ["1", "2"])
    with pytest.raises(UsageError, match="is a model for detection, and this is localization"):
        prepare(
            resolve(
                Layer(
                    source="argument",
                    values={
                        "data": "scenes-one",
                        "task": "localization",
                        "weights": str(tmp_path / "m.safetensors"),
                    },
                )
            )
        )


def test_a_backbone_is_no_detector():
    with pytest.raises(UsageError, match="give it as --backbone resnet18"):
        prepare(resolve(Layer(source="argument", values={"data": "scenes", "model": "resnet18"})))


def test_an_augmentation_of_other_tasks_says_so():
    with pytest.raises(UsageError, match="--augment ssd is for localization, keypoints, detection"):
        prepare(resolve(Layer(source="argument", values={"data": "digits", "augment": "ssd"})))


def test_the_last_of_few_epochs_is_clean():
    assert [usual_clean_epochs(epochs) for epochs in (1, 4, 5, 9, 10, 19, 20, 40)] == [0, 0, 1, 1, 1, 1, 2, 4]


def test_colour_weights_see_grey_images_in_colour(tmp_path):
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    prepared = _prepared(tmp_path / "resnet18.pth", data="digits", model="resnet18", origin="torchvision")
    assert (prepared.resolved.settings.channels, prepared.preprocessing.size) == ("3", (224, 224))
