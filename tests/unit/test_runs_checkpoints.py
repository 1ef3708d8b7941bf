"""Reading, checking and fetching weights of other origins, on local files only."""

import hashlib
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

import striate
from striate.errors import ModelFileError, UsageError
from striate.models.catalog import load
from striate.models.detectors.catalog import create_detector
from striate.models.official import CHECKPOINTS
from striate.runs import checkpoints


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return striate.create("lenet5_modern").state_dict()


def test_reads_pth_and_safetensors_wrapped_and_prefixed_alike(tmp_path, tensors):
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "b.pth")
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": t for name, t in tensors.items()}}, tmp_path / "c.pth")
    for name in ("a.safetensors", "b.pth", "c.pth"):
        found = checkpoints.read_checkpoint(tmp_path / name)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[key], tensors[key]) for key in tensors)


def test_code_in_a_pickle_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("the pickle ran",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ModelFileError, match="holds more than tensors"):
        checkpoints.read_checkpoint(tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(ModelFileError, match=r"plain\.pth"):
        checkpoints.read_checkpoint(tmp_path / "plain.pth")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.pth", b""),
        ("words.pth", b"these are words"),
        ("words.safetensors", b"these are words, and longer than eight bytes"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=name):
        checkpoints.read_checkpoint(tmp_path / name)
    with pytest.raises(ModelFileError, match="there is no checkpoint"):
        checkpoints.read_checkpoint(tmp_path / "missing.pth")


def test_a_truncated_pth_is_named(tmp_path, tensors):
    torch.save(tensors, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match=r"half\.pth is cut off or damaged"):
        checkpoints.read_checkpoint(tmp_path / "half.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelFileError, match="no tensors by name"):
        checkpoints.read_checkpoint(tmp_path / "list.pth")


def test_the_origin_follows_from_the_names_where_it_can(tmp_path, tensors):
    torch.save(tensors, tmp_path / "a.pth")
    for origin in (None, "striate"):
        network = striate.create("lenet5_modern", weights=tmp_path / "a.pth", origin=origin)
        assert all(torch.equal(network.state_dict()[key], tensors[key]) for key in tensors)
    from torchvision.models import resnet18

    theirs = resnet18(weights=None, num_classes=4).eval()  # torchvision's names are timm's too, and mean the same
    torch.save(theirs.state_dict(), tmp_path / "r.pth")
    ours = striate.create("resnet18", weights=tmp_path / "r.pth").eval()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_weights_of_another_network_are_refused(tmp_path, tensors):
    torch.save(tensors, tmp_path / "a.pth")
    with pytest.raises(ModelFileError, match="are no resnet18's, neither striate's nor those of torchvision or timm"):
        striate.create("resnet18", weights=tmp_path / "a.pth")


def test_what_was_adapted_is_said(tmp_path):
    torch.save(striate.create("squeezenet1_1", classes=5).state_dict(), tmp_path / "s.pth")
    _, notes = checkpoints.create_with_weights(
        "squeezenet1_1", str(tmp_path / "s.pth"), origin=None, classes=3, channels=1, new_head=True
    )
    assert notes == (
        "backbone.stem.conv1.weight for 3 channels is summed for 1",
        "the last layer for 5 classes is made anew for 3",
    )


def test_googles_networks_see_pixels_from_minus_one_to_one():
    from torchvision.models import get_model

    for name, theirs in (("googlenet_bn", "googlenet"), ("inception_v3", "inception_v3")):
        torch.manual_seed(0)
        network = get_model(theirs, weights=None, num_classes=3, aux_logits=True, init_weights=False).eval()
        network.transform_input = True  # as with its official weights
        ours = load(name, network.state_dict(), where="memory", origin="torchvision", size=(128, 128)).eval()
        row = checkpoints.checkpoints(name)[0]
        pixels = torch.rand(2, 3, 128, 128)

        def normalised(mean, std, pixels=pixels):
            return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)

        expected = network(normalised((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        torch.testing.assert_close(ours(normalised(row.mean, row.std)), expected, rtol=1e-3, atol=1e-3)


@pytest.fixture
def published(tmp_path, tensors, monkeypatch):
    """An official checkpoint that lies in a local file instead of on the network, and an empty cache."""
    file = tmp_path / "server" / "lenet5_modern.pth"
    file.parent.mkdir()
    torch.save(tensors, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    row = replace(CHECKPOINTS[0], model="lenet5_modern", url=file.as_uri(), sha256=digest[:8], name="torchvision:V1")
    monkeypatch.setattr("striate.models.official.CHECKPOINTS", (row,))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    return row


def test_an_official_checkpoint_is_fetched_only_when_asked_checked_and_kept(tmp_path, published):
    with pytest.raises(UsageError, match="not on this machine: let --download fetch"):
        checkpoints.fetch(published, download=False)
    path = checkpoints.fetch(published, download=True)
    assert path == tmp_path / "cache" / "checkpoints" / "lenet5_modern.pth"
    (tmp_path / "server" / "lenet5_modern.pth").unlink()
    assert checkpoints.fetch(published, download=False) == path
    network = striate.create("lenet5_modern", weights="torchvision:V1", origin="striate")
    assert network.classes == 10


def test_another_file_than_the_published_one_is_refused_and_not_kept(tmp_path, published):
    wrong = replace(published, sha256="00000000")
    with pytest.raises(ModelFileError, match=r"its SHA-256 begins with .*, not with 00000000"):
        checkpoints.fetch(wrong, download=True)
    assert not list((tmp_path / "cache" / "checkpoints").iterdir())
    checkpoints.fetch(published, download=True)
    with pytest.raises(ModelFileError, match="damaged or another file"):
        checkpoints.fetch(wrong, download=False)


def test_a_download_that_fails_says_what_to_do_by_hand(published):
    with pytest.raises(ModelFileError, match="Fetch it by hand and put it at"):
        checkpoints.fetch(replace(published, url=published.url + ".gone"), download=True)


def test_an_unknown_official_name_is_answered_with_the_real_ones(published):
    with pytest.raises(UsageError, match=r"has no official checkpoint 'torchvision:V2': it has torchvision:V1"):
        striate.create("lenet5_modern", weights="torchvision:V2")
    with pytest.raises(UsageError, match="it has none"):
        striate.create("lenet1", weights="torchvision:V1")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_are_saved_as_the_other_library_names_them(tmp_path, suffix):
    from torchvision.models import squeezenet1_1

    path = tmp_path / f"w.{suffix}"
    ours = striate.create("squeezenet1_1", classes=3).eval()
    striate.save_weights(ours, path, name="squeezenet1_1", origin="torchvision")
    theirs = squeezenet1_1(weights=None, num_classes=3).eval()
    theirs.load_state_dict(checkpoints.read_checkpoint(path))
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_saving_under_unknown_names_is_refused(tmp_path):
    network = striate.create("squeezenet1_1", classes=3)
    with pytest.raises(UsageError, match="has no names of 'keras': the origin is one of torchvision"):
        striate.save_weights(network, tmp_path / "w.pth", name="squeezenet1_1", origin="keras")
    with pytest.raises(UsageError, match="the network is no resnet18"):
        striate.save_weights(network, tmp_path / "w.pth", name="resnet18", origin="torchvision")
    with pytest.raises(UsageError, match=r"\.safetensors or \.pth"):
        striate.save_weights(network, tmp_path / "w.txt", name="squeezenet1_1", origin="torchvision")


def test_a_detectors_weights_are_saved_as_torchvision_names_them_and_come_back(tmp_path):
    from torchvision.models import get_model

    torch.manual_seed(0)
    ours = striate.create("fcos", classes=5, size=128)
    with torch.no_grad():
        for value in ours.state_dict().values():  # what training moves, statistics of normalisations included
            if value.is_floating_point():
                value.uniform_(0.5, 1.5)
            else:
                value.fill_(7)
    path = tmp_path / "fcos.safetensors"
    striate.save_weights(ours, path, name="fcos", origin="torchvision")
    with torch.device("meta"):
        theirs = get_model("fcos_resnet50_fpn", weights=None, weights_backbone=None, num_classes=5)
    theirs.load_state_dict(checkpoints.read_checkpoint(path), strict=True, assign=True)
    again = tmp_path / "again.pth"
    torch.save(theirs.state_dict(), again)
    back = striate.create("fcos", weights=again, size=128)
    assert back.classes == 5
    own = ours.state_dict()
    assert all(torch.equal(tensor, own[key]) for key, tensor in back.state_dict().items())


def test_a_detector_is_saved_only_as_what_the_other_library_has(tmp_path):
    with torch.device("meta"):
        sizes = {"classes": 2, "channels": 3, "size": (128, 128)}
        other, strided = (
            create_detector("retinanet", backbone=backbone, **sizes) for backbone in ("resnet18", "resnet50_v1")
        )
        strider, dilated = create_detector("strider_n", **sizes), create_detector("detr_dc5", **sizes)
    path = tmp_path / "w.pth"
    with pytest.raises(UsageError, match="the network is no retinanet around resnet50, as torchvision has it"):
        striate.save_weights(other, path, name="retinanet", origin="torchvision")
    with pytest.raises(UsageError, match="the network is no retinanet around resnet50"):  # the same shapes
        striate.save_weights(strided, path, name="retinanet", origin="torchvision")
    with pytest.raises(UsageError, match="the network is no detr around resnet50"):
        striate.save_weights(dilated, path, name="detr", origin="authors")
    with pytest.raises(
        UsageError, match=r"strider_n has no names of 'torchvision': .*none; ssd300, retinanet, .* have"
    ):
        striate.save_weights(strider, path, name="strider_n", origin="torchvision")
    with pytest.raises(UsageError, match="has no names of 'timm': the origin is one of torchvision"):
        striate.save_weights(other, path, name="retinanet", origin="timm")
    with pytest.raises(UsageError, match="resnet50 is a backbone rather than a detector"):
        striate.save_weights(other, path, name="resnet50", origin="torchvision")
    assert not path.exists()


def test_none_is_no_weights():
    assert striate.create("lenet5_modern", weights="none").classes == 10
