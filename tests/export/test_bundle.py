import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess

import digit_models
import numpy as np
import pytest
import tensorflow as tf
import yaml

from keras_mixer.export import export_onnx, write_serving_bundle
from keras_mixer.export.bundle import dns_label, labels_of
from keras_mixer.serving import read_batching_parameters, read_model_config
from keras_mixer.wire import check_model_name

ROOT = pathlib.Path(__file__).parents[2]
V01 = ROOT / "tests" / "data" / "v01" / "saved_models"


@pytest.fixture(scope="module")
def bundle(exported, tmp_path_factory):
    base = tmp_path_factory.mktemp("models") / "digits"
    shutil.copytree(exported, base)
    shutil.copytree(base / "1", base / "2")
    return write_serving_bundle(base, base.with_name("digits-serving"))


def load_yaml(path: pathlib.Path):
    return yaml.safe_load(path.read_text())


def test_holds_every_file_and_nothing_else(bundle):
    assert sorted(path.name for path in bundle.iterdir()) == [
        *("Dockerfile", "README.md", "batching_parameters.txt", "compose.yaml", "kserve", "kubernetes"),
        *("models", "models.config", "monitoring.config", "triton"),
    ]
    assert sorted(path.name for path in (bundle / "kubernetes").iterdir()) == [
        *("deployment.yaml", "hpa.yaml", "service.yaml")
    ]


def test_the_labelled_versions_load(bundle):
    for version in ("1", "2"):
        loaded = tf.saved_model.load(str(bundle / "models" / "digits" / version))
        assert "serving_bytes" in loaded.signatures
        assert (bundle / "models" / "digits" / version / "assets.extra" / "tf_serving_warmup_requests").is_file()


def test_the_official_proto_reads_models_config(bundle):
    model_server_config_pb2 = pytest.importorskip(
        "tensorflow_serving.config.model_server_config_pb2", reason="pip install --no-deps tensorflow-serving-api"
    )
    from google.protobuf import text_format

    text = (bundle / "models.config").read_text()
    (config,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == ("digits", "/models/digits", "tensorflow")
    assert list(config.model_version_policy.specific.versions) == [1, 2]
    assert dict(config.version_labels) == {"stable": 1, "canary": 2}


def test_the_embedded_server_reads_the_configuration(bundle):
    pytest.importorskip("tensorflow_serving", reason="pip install --no-deps tensorflow-serving-api")
    (config,) = read_model_config(bundle / "models.config")
    assert config.base_path == bundle / "models" / "digits"
    batching = read_batching_parameters(bundle / "batching_parameters.txt")
    # TF Serving requires the largest allowed size to be the largest batch.
    assert batching.allowed_batch_sizes[-1] == batching.max_batch_size == 32


@pytest.fixture(scope="module")
def repository(exported, model, card, tmp_path_factory):
    base = tmp_path_factory.mktemp("models") / "digits"
    shutil.copytree(exported, base)
    export_onnx(model, base / "model.onnx", card=card)
    return write_serving_bundle(base, base.with_name("digits-serving")) / "triton"


class TestTriton:
    """Triton itself is on no package index: its published proto reads the configuration, and runtimes the models."""

    @staticmethod
    def configuration(folder):
        protos = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="pip install tritonclient[grpc]")
        from google.protobuf import text_format

        return text_format.Parse((folder / "config.pbtxt").read_text(), protos.ModelConfig())

    def test_the_official_proto_reads_the_configuration(self, repository):
        assert sorted(path.name for path in repository.iterdir()) == ["digits", "digits_onnx"]
        for folder in repository.iterdir():
            config = self.configuration(folder)
            assert (config.name, config.max_batch_size) == (folder.name, 32)
            (images,), (scores,) = config.input, config.output
            assert (images.name, list(images.dims), scores.name, list(scores.dims)) == (
                "images",
                [8, 8, 1],
                "scores",
                [10],
            )
            assert (folder / scores.label_filename).read_text().split() == list("0123456789")
        assert list(self.configuration(repository / "digits").version_policy.specific.versions) == [1]

    def test_the_models_have_the_tensors_that_it_names(self, repository, model):
        images = digit_models.random_images(2)
        expected = model.predict_on_batch(images)
        loaded = tf.saved_model.load(str(repository / "digits" / "1" / "model.savedmodel"))
        scores = loaded.signatures["serving_default"](images=tf.constant(images))["scores"]
        np.testing.assert_allclose(scores, expected, atol=1e-5)
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(repository / "digits_onnx" / "1" / "model.onnx")
        np.testing.assert_allclose(session.run(["scores"], {"images": images})[0], expected, atol=1e-5)

    def test_a_bundle_without_onnx_has_the_saved_model_alone(self, bundle):
        assert [path.name for path in (bundle / "triton").iterdir()] == ["digits"]
        versions = [path.name for path in (bundle / "triton" / "digits").iterdir() if path.is_dir()]
        assert sorted(versions) == ["1", "2"]

    def test_an_onnx_file_of_another_model_stays_out(self, exported, model, card, tmp_path):
        base = shutil.copytree(exported, tmp_path / "digits")
        export_onnx(model, base / "model.onnx", card=card)
        dataclasses.replace(card, class_names=tuple("abcdefghij")).save(base / "model.json")
        assert not (write_serving_bundle(base, tmp_path / "bundle") / "triton" / "digits_onnx").exists()

    @pytest.mark.parametrize("files", [["1"], ["1", "model.onnx"]])
    def test_an_onnx_file_of_an_earlier_export_stays_out(self, exported, model, card, tmp_path, files):
        """Its card is the same, but its weights may be older than those of the version."""
        base = shutil.copytree(exported, tmp_path / "digits")
        export_onnx(model, base / "model.onnx", card=card)
        (base / "report.json").write_text(json.dumps({"rows": [{"file": None}, *({"file": file} for file in files)]}))
        bundle = write_serving_bundle(base, tmp_path / "bundle")
        assert (bundle / "triton" / "digits_onnx").exists() == ("model.onnx" in files)


def test_kserve_reads_the_folders_of_the_bundle(bundle):
    for name, folder in {"tensorflow": "models/digits", "triton": "triton"}.items():
        service = load_yaml(bundle / "kserve" / f"{name}.yaml")
        assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
        model = service["spec"]["predictor"]["model"]
        assert model["modelFormat"] == {"name": name}
        assert model["storageUri"] == f"pvc://models/{folder}"
        assert (bundle / folder).is_dir()


def test_monitoring_config_enables_prometheus(bundle):
    assert re.fullmatch(
        r'prometheus_config \{\s+enable: true\s+path: "/monitoring/prometheus/metrics"\s+\}\s*',
        (bundle / "monitoring.config").read_text(),
    )


def test_compose_pins_the_server_and_mounts_what_its_arguments_name(bundle):
    service = load_yaml(bundle / "compose.yaml")["services"]["serving"]
    assert service["image"] == "tensorflow/serving:2.20.0"
    mounts = dict(volume.split(":")[:2][::-1] for volume in service["volumes"])
    assert mounts == {"/models": "./models", "/config": "."}
    files = [argument.partition("=")[2] for argument in service["command"] if "_file=" in argument]
    assert len(files) == 3
    for file in files:
        assert (bundle / pathlib.PurePosixPath(file).relative_to("/config")).is_file()
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_the_image_holds_what_its_arguments_name(bundle):
    copies = [line.split()[1:] for line in (bundle / "Dockerfile").read_text().splitlines() if line.startswith("COPY")]
    assert copies[0] == ["models", "/models"]
    assert copies[1][-1] == "/config/"
    assert all((bundle / source).exists() for source in copies[1][:-1])


def test_the_manifests_fit_each_other(bundle):
    deployment, service, autoscaler = (
        load_yaml(bundle / "kubernetes" / name) for name in ("deployment.yaml", "service.yaml", "hpa.yaml")
    )
    template = deployment["spec"]["template"]
    (container,) = template["spec"]["containers"]
    assert container["image"] == "digits-serving:2"
    assert container["readinessProbe"]["httpGet"] == {"path": "/v1/models/digits", "port": "rest"}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == ports
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]  # the autoscaler's business


def test_each_manifest_can_be_edited_in_one_place_without_another_changing(bundle):
    for file in (*(bundle / "kubernetes").iterdir(), bundle / "compose.yaml"):
        tokens = [type(token) for token in yaml.scan(file.read_text())]
        assert not {yaml.AnchorToken, yaml.AliasToken} & set(tokens), file


@pytest.mark.parametrize("name", ["7", "digits", "2021-Mixer_B.16", "9" * 50])
def test_the_manifests_names_are_dns_labels(name):
    # A Service's name is a label of RFC 1035: a letter first, at most 63 characters.
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", f"{dns_label(check_model_name(name))}-serving")


@pytest.mark.parametrize("name", ["7", "true", "2021-Mixer_B.16"])
def test_any_name_stays_a_text_in_yaml(exported, tmp_path, name):
    bundle = write_serving_bundle(shutil.copytree(exported, tmp_path / name), tmp_path / "bundle")
    for file in ("compose.yaml", "kserve/tensorflow.yaml"):
        read = load_yaml(bundle / file)
        assert read.get("metadata", read)["name"] == dns_label(name)
    for file in ("deployment.yaml", "service.yaml", "hpa.yaml"):
        assert load_yaml(bundle / "kubernetes" / file)["metadata"]["name"] == f"{dns_label(name)}-serving"


def test_the_readme_names_this_model_and_its_shell_is_well_formed(bundle):
    text = (bundle / "README.md").read_text()
    assert "{" + "name}" not in text
    assert "http://localhost:8501/v1/models/digits:predict" in text
    assert "**new tag** (such as `digits-serving:2-stable`)" in text  # the pods have no other way to a moved label
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 6
    for block in blocks:
        subprocess.run(["sh", "-n", "-c", block], check=True)
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        compile(block, "README.md", "exec")


def test_a_new_version_becomes_the_canary_and_the_old_files_stay(exported, tmp_path):
    base, bundle = tmp_path / "digits", tmp_path / "digits-serving"
    shutil.copytree(exported, base)
    write_serving_bundle(base, bundle)
    assert read_labels(bundle) == {"stable": 1, "canary": 1}
    for version in ("2", "3"):
        shutil.copytree(base / "1", base / version)
        write_serving_bundle(base, bundle)
    assert read_labels(bundle) == {"stable": 1, "canary": 3}
    assert sorted(path.name for path in (bundle / "models" / "digits").iterdir()) == ["1", "2", "3"]


def test_another_model_under_the_number_of_an_earlier_version_is_an_error(exported, tmp_path):
    base, bundle = tmp_path / "digits", tmp_path / "digits-serving"
    shutil.copytree(exported, base)
    write_serving_bundle(base, bundle)
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    shutil.rmtree(base)
    shutil.copytree(exported, base)
    labels = base / "1" / "assets" / "labels.txt"
    labels.write_text(labels.read_text().replace("7", "seven"))
    with pytest.raises(ValueError, match=r"models/digits/1 is another model than .*digits/1.*remove the folder"):
        write_serving_bundle(base, bundle)
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before


def test_memory_is_asked_for_the_versions_that_are_served(exported, tmp_path):
    base, bundle = tmp_path / "digits", tmp_path / "digits-serving"
    shutil.copytree(exported, base)
    asked = []
    for version in ("2", "3", "4"):
        shutil.copytree(exported / "1", base / version)
        if version == "2":
            (base / "2" / "assets" / "large").touch()
            os.truncate(base / "2" / "assets" / "large", 50 * 2**20)
        write_serving_bundle(base, bundle)
        deployment = load_yaml(bundle / "kubernetes" / "deployment.yaml")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        asked.append(container["resources"]["requests"]["memory"])
    small = sum(file.stat().st_size for file in (exported / "1").rglob("*") if file.is_file()) / 2**20
    # Version 2, the canary at first, is served once more beside the third one.
    expected = [512 + 3 * int(count * small + large) for count, large in ((2, 50), (3, 50), (3, 0))]
    assert asked == [f"{megabytes}Mi" for megabytes in expected]


def test_labels_that_the_operator_has_moved_stay(exported, tmp_path):
    base, bundle = tmp_path / "digits", tmp_path / "digits-serving"
    shutil.copytree(exported, base)
    shutil.copytree(base / "1", base / "2")
    write_serving_bundle(base, bundle)
    config = bundle / "models.config"
    config.write_text(
        "model_config_list { config { name: 'digits' base_path: '/models/digits'\n"
        "# version_labels { key: 'stable' value: 9 }\n"
        "version_labels { value: 2 key: 'stable' } version_labels: { key: 'old' value: 1 }\n"
        "version_labels { key: 'canary' value: 2 } } }"
    )
    for version, served in (("3", [1, 2, 3]), ("4", [1, 2, 3, 4]), ("5", [1, 2, 4, 5])):
        shutil.copytree(base / "1", base / version)
        write_serving_bundle(base, bundle)
        assert read_labels(bundle) == {"stable": 2, "old": 1, "canary": int(version)}
        # The canary of before is served once more.
        assert [int(number) for number in re.findall(r"versions: (\d+)", config.read_text())] == served


def test_every_file_is_written_anew(exported, tmp_path):
    base, bundle = tmp_path / "digits", tmp_path / "digits-serving"
    shutil.copytree(exported, base)
    write_serving_bundle(base, bundle)
    before = {path: path.read_text() for path in bundle.glob("*.*")}
    for path in before:
        path.write_text("edited")
    write_serving_bundle(base, bundle)
    assert {path: path.read_text() for path in bundle.glob("*.*")} == before


def test_a_bundle_of_version_0_1_is_taken_over(exported, tmp_path):
    base, bundle = shutil.copytree(V01 / "tiny", tmp_path / "tiny"), tmp_path / "tiny-serving"
    shutil.copytree(V01 / "tiny-serving", bundle)
    shutil.copytree(base / "1", bundle / "models" / "tiny" / "1", dirs_exist_ok=True)
    shutil.copytree(exported / "1", base / "2")
    write_serving_bundle(base, bundle)
    assert read_labels(bundle) == {"stable": 1, "canary": 2}
    assert not (bundle / ".generated.json").exists()
    assert (bundle / "models" / "tiny" / "2" / "saved_model.pb").is_file()
    (container,) = load_yaml(bundle / "kubernetes/deployment.yaml")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "tiny-serving:2"


def test_a_label_of_a_version_that_is_nowhere_is_an_error(exported, tmp_path):
    base, bundle = tmp_path / "digits", tmp_path / "digits-serving"
    shutil.copytree(exported, base)
    write_serving_bundle(base, bundle)
    config = bundle / "models.config"
    config.write_text(edited := config.read_text().replace("value: 1", "value: 7", 1))
    with pytest.raises(ValueError, match="labels version 7 'stable'"):
        write_serving_bundle(base, bundle)
    assert config.read_text() == edited


def read_labels(bundle):
    entries = re.findall(r'key: "(\w+)"\s+value: (\d+)', (bundle / "models.config").read_text())
    return {label: int(version) for label, version in entries}


def test_a_base_without_versions_is_an_error(tmp_path):
    (tmp_path / "digits").mkdir()
    for name in ("digits", "missing"):
        with pytest.raises(ValueError, match="holds no version"):
            write_serving_bundle(tmp_path / name, tmp_path / "bundle")


@pytest.mark.parametrize("name", ["", "../digits", "a b", "a:predict", "-a", "a/b", "x" * 60, 'a"b'])
def test_names_that_no_address_can_hold_are_errors(name):
    with pytest.raises(ValueError, match="A model's name is"):
        check_model_name(name)


@pytest.mark.parametrize("name", ["digits", "mixer_b16", "Mixer-B.16", "7"])
def test_usual_names_are_taken(name):
    assert check_model_name(name) == name


def test_a_new_bundle_labels_the_two_newest_versions():
    assert labels_of([4], {}) == {"stable": 4, "canary": 4}
    assert labels_of([4, 7, 9], {}) == {"stable": 7, "canary": 9}
