"""DETR against Hugging Face's transformers and torchvision, with the same random weights."""

import pytest
import torch

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets
from striate.models.backbones.resnet import VARIANTS as RESNETS
from striate.models.backbones.resnet import ResNet
from striate.models.detectors.detr import Detr, Spec, build, dilate, layer_losses, origins
from striate.models.weights import fit, from_ours, to_ours

SPEC = Spec(width=32, heads=4, hidden=48, encoder=2, decoder=3, queries=12)
CLASSES = 5
SIZE = (96, 128)
CONTENT = torch.tensor([[96, 128], [70, 128], [96, 65]])


def _theirs(**changes):
    from transformers import DetrConfig, DetrForObjectDetection

    settings = {
        "backbone_config": {
            "model_type": "timm_backbone",
            "backbone": "resnet18",
            "features_only": True,
            "use_pretrained_backbone": False,
            "out_indices": [4],
        },
        "num_labels": CLASSES,
        "num_queries": SPEC.queries,
        "encoder_layers": SPEC.encoder,
        "decoder_layers": SPEC.decoder,
        "encoder_ffn_dim": SPEC.hidden,
        "decoder_ffn_dim": SPEC.hidden,
        "encoder_attention_heads": SPEC.heads,
        "decoder_attention_heads": SPEC.heads,
        "d_model": SPEC.width,
    }
    network = DetrForObjectDetection(DetrConfig(**settings | changes)).eval()
    for name, tensor in network.state_dict().items():  # norms, biases and positions that do something
        if tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5) if "weight" in name or "var" in name else tensor.normal_(std=0.1)
    torch.nn.init.normal_(network.model.query_position_embeddings.weight)
    return network


def _batch():
    truths = [
        Instances(
            boxes=torch.tensor([[3.0, 5, 40, 60], [30, 10, 100, 90], [60, 60, 70, 75]]), labels=torch.tensor([0, 4, 2])
        ),
        Instances(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64)),
        Instances(boxes=torch.tensor([[10.0, 20, 50, 80]]), labels=torch.tensor([4])),
    ]
    images = torch.randn(3, 3, *SIZE)
    for image, (height, width) in zip(images, CONTENT.tolist(), strict=True):
        image[:, height:], image[:, :, width:] = 0, 0
    placement = torch.tensor([[1.0, 1, 0, 0]]).expand(3, 4)
    return Batch(
        images=images,
        sizes=CONTENT,
        truths=InstanceSets.of(truths),
        indices=torch.arange(3),
        placement=placement,
    )


def _their_labels(batch):
    found = []
    for objects, (height, width) in zip(batch.instances, batch.content.tolist(), strict=True):
        x1, y1, x2, y2 = (objects.boxes / torch.tensor([width, height, width, height])).unbind(1)
        boxes = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], 1)
        found.append({"class_labels": objects.labels, "boxes": boxes})
    return found


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    theirs = _theirs()
    ours = Detr(SPEC, ResNet(RESNETS["resnet18"], channels=3), classes=CLASSES, channels=3, size=SIZE).eval()
    fit(ours, to_ours(theirs.state_dict(), ours, origins("detr")["transformers"]), "transformers")
    return ours, theirs


def _mask():
    rows, columns = torch.arange(SIZE[0])[:, None], torch.arange(SIZE[1])
    return torch.stack([(rows < height) & (columns < width) for height, width in CONTENT.tolist()]).long()


def test_logits_boxes_losses_and_gradients_with_padding_are_theirs(pair):
    ours, theirs = pair
    batch = _batch()
    expected = theirs(batch.images, pixel_mask=_mask(), labels=_their_labels(batch))
    logits, boxes = ours.every_layer(batch.images, batch.content)
    torch.testing.assert_close(logits[-1], expected.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(boxes[-1], expected.pred_boxes, rtol=1e-4, atol=1e-5)

    losses = ours.losses(batch)
    weights = {"class": ("loss_ce", 1), "l1": ("loss_bbox", 5), "giou": ("loss_giou", 2)}
    for name, (there, weight) in weights.items():
        torch.testing.assert_close(losses[name], expected.loss_dict[there] * weight, rtol=1e-4, atol=1e-5)

    (losses["class"] + losses["l1"] + losses["giou"]).backward()
    expected.loss.backward()
    found = from_ours({n: p.grad for n, p in ours.named_parameters() if p.grad is not None}, _in_memory())
    compared = 0
    for name, parameter in theirs.named_parameters():
        if parameter.grad is not None:
            scale = parameter.grad.abs().max().clamp(min=1e-4)
            torch.testing.assert_close(found[name] / scale, parameter.grad / scale, rtol=1e-3, atol=1e-3, msg=name)
            compared += 1
    assert compared > 100
    ours.zero_grad()


def _in_memory():
    """The names of their modules, which are not those of their files."""
    from dataclasses import replace

    origin = origins("detr")["transformers"]
    return replace(origin, names=origin.names[len(origin.names) // 2 :])


def test_the_losses_of_every_layer_are_theirs(pair):
    """By their criterion on our layers: keeping them, their model hands on normalised states."""
    from transformers import DetrConfig
    from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

    ours, _ = pair
    batch = _batch()
    with torch.no_grad():
        logits, boxes = ours.every_layer(batch.images, batch.content)
        losses = ours.losses(batch)
        config = DetrConfig(num_labels=CLASSES, decoder_layers=SPEC.decoder, auxiliary_loss=True)
        total, each, _ = ForObjectDetectionLoss(
            logits[-1], _their_labels(batch), torch.device("cpu"), boxes[-1], config, logits, boxes
        )
        by_layer = layer_losses(logits, boxes, ours._truths(batch))
    torch.testing.assert_close(sum(losses.values()), total)
    for layer, suffix in enumerate(("_0", "_1", "")):
        torch.testing.assert_close(by_layer["class"][layer], each[f"loss_ce{suffix}"])
        torch.testing.assert_close(by_layer["l1"][layer], 5 * each[f"loss_bbox{suffix}"])
        torch.testing.assert_close(by_layer["giou"][layer], 2 * each[f"loss_giou{suffix}"])


def test_decoded_objects_are_theirs(pair):
    from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

    ours, theirs = pair
    batch = _batch()
    with torch.no_grad():
        outputs = theirs(batch.images, pixel_mask=_mask())
        found = ours.detect(batch.images, batch.content)
    processor = DetrImageProcessorPil()
    expected = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=CONTENT)
    for mine, other, (height, width) in zip(found, expected, CONTENT.tolist(), strict=True):
        order = other["scores"].argsort(descending=True, stable=True)
        torch.testing.assert_close(mine.scores, other["scores"][order], rtol=1e-4, atol=1e-5)
        assert torch.equal(mine.labels, other["labels"][order])
        limits = torch.tensor([width, height, width, height])
        torch.testing.assert_close(
            mine.boxes, torch.minimum(other["boxes"][order].clamp(min=0), limits), rtol=1e-3, atol=1e-2
        )


def test_their_files_are_read_too(pair, tmp_path):
    from safetensors.torch import load_file

    ours, theirs = pair
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert "model.encoder.layers.0.fc1.weight" in tensors  # as in the published files, not as in the modules
    again = Detr(SPEC, ResNet(RESNETS["resnet18"], channels=3), classes=CLASSES, channels=3, size=SIZE)
    fit(again, to_ours(tensors, again, origins("detr")["transformers"]), "file")
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    back = from_ours(again.state_dict(), origins("detr")["transformers"])
    assert {name for name in back if not name.endswith("num_batches_tracked")} == set(tensors)


def test_the_published_network_has_the_authors_parameters():
    """41,302,368: what the authors' code prints for ResNet-50 and 91 classes, conv1 and conv2_x frozen."""
    with torch.device("meta"):
        network = build("detr", ResNet(RESNETS["resnet50"], channels=3), classes=91, channels=3, size=(800, 1216))
    norms = [m for m in network.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    frozen = {p for norm in norms for p in norm.parameters()}
    frozen |= {*network.backbone.stem.parameters(), *network.backbone.stage1.parameters()}
    assert sum(p.numel() for p in network.parameters() if p not in frozen) == 41_302_368


def test_the_authors_layers_stack_queries_keys_and_values_as_torch_does():
    """One layer of theirs is torch's own transformer layer, but for the positions."""
    from torch import nn

    torch.manual_seed(0)
    ours = Detr(SPEC, ResNet(RESNETS["resnet18"], channels=3), classes=CLASSES, channels=3, size=SIZE).eval()
    theirs = from_ours(ours.state_dict(), origins("detr")["authors"])
    prefix = "transformer.encoder.layers.1."
    layer = nn.TransformerEncoderLayer(SPEC.width, SPEC.heads, SPEC.hidden, batch_first=True).eval()
    layer.load_state_dict({name.removeprefix(prefix): t for name, t in theirs.items() if name.startswith(prefix)})
    x, seen = torch.randn(2, 7, SPEC.width), torch.rand(2, 7) > 0.3
    mine = ours.encoder[1](x, torch.zeros_like(x), seen)
    torch.testing.assert_close(mine[seen], layer(x, src_key_padding_mask=~seen)[seen], rtol=1e-4, atol=1e-5)

    prefix = "transformer.decoder.layers.0."
    layer = nn.TransformerDecoderLayer(SPEC.width, SPEC.heads, SPEC.hidden, batch_first=True).eval()
    layer.load_state_dict({name.removeprefix(prefix): t for name, t in theirs.items() if name.startswith(prefix)})
    queries = torch.randn(2, 4, SPEC.width)
    mine = ours.decoder[0](queries, torch.zeros(4, SPEC.width), x, x, seen)
    torch.testing.assert_close(mine, layer(queries, x, memory_key_padding_mask=~seen), rtol=1e-4, atol=1e-5)

    again = to_ours(theirs, ours, origins("detr")["authors"])
    assert all(torch.equal(again[name], tensor) for name, tensor in ours.state_dict().items())


def test_the_dilated_backbone_is_torchvisions():
    from torchvision.models import resnet50

    from striate.models.catalog import create

    torch.manual_seed(0)
    backbone = create("resnet50", classes=2, channels=3, size=(64, 96)).backbone.eval()
    origin = origins("detr")["authors"]
    theirs = resnet50(replace_stride_with_dilation=[False, False, True]).eval()
    tensors = from_ours({f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}, origin)
    tensors = {name.removeprefix("backbone.0.body."): tensor for name, tensor in tensors.items()}
    theirs.load_state_dict(tensors | {name: t for name, t in theirs.state_dict().items() if name.startswith("fc.")})
    dilate(backbone)
    images = torch.randn(2, 3, 64, 96)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
    with torch.no_grad():
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
        found = backbone(images)[-1]
    assert backbone.stages[-1].stride == 16
    assert found.shape == (2, 2048, 4, 6)
    scale = expected.abs().max()
    torch.testing.assert_close(found / scale, expected / scale, rtol=1e-3, atol=1e-5)
