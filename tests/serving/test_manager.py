import shutil

import pytest
import stand_in

from keras_mixer.serving.errors import RequestError
from keras_mixer.serving.server.config import ModelConfig
from keras_mixer.serving.server.manager import ModelManager
from keras_mixer.serving.server.metrics import Metrics


@pytest.fixture
def base_path(bundle, tmp_path):
    """A folder of version 1; `add` copies a version into it in one step."""
    path = tmp_path / "model"
    path.mkdir()
    add(bundle, path, 1)
    return path


def add(bundle, base_path, number, source=1):
    hidden = base_path / f".{number}"
    shutil.copytree(bundle / stand_in.NAME / str(source), hidden)
    hidden.rename(base_path / str(number))


def loaded(base_path, **config):
    manager = ModelManager([ModelConfig(base_path, **config)], Metrics())
    manager.load()
    return manager


def states(manager):
    return {number: state for number, state, _ in manager.status("model")}


def test_a_new_version_takes_over_and_the_old_one_ends(bundle, base_path):
    manager = loaded(base_path)
    add(bundle, base_path, 3)
    manager.poll()
    assert states(manager) == {3: "AVAILABLE", 1: "END"}
    with manager.use("model") as servable:
        assert servable.version == 3
    with pytest.raises(RequestError, match="Servable not found"), manager.use("model", 1):
        pass


def test_a_version_in_use_is_not_unloaded(bundle, base_path):
    manager = loaded(base_path)
    images = stand_in.images(0, 1)
    with manager.use("model") as servable:
        add(bundle, base_path, 2)
        manager.poll()
        assert states(manager) == {2: "AVAILABLE", 1: "UNLOADING"}
        assert servable.run("serving_default", {"images": images})["scores"].shape == (1, 4)
        manager.poll()
        assert states(manager)[1] == "UNLOADING"
    manager.poll()
    assert states(manager) == {2: "AVAILABLE", 1: "END"}


def test_a_version_that_fails_leaves_the_old_one_in_service_until_it_is_mended(bundle, base_path, caplog):
    manager = loaded(base_path)
    broken = base_path / "2"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"no SavedModel")
    manager.poll()
    manager.poll()
    (failed, state, error), (old, old_state, _) = manager.status("model")
    assert (failed, state, old, old_state) == (2, "END", 1, "AVAILABLE")
    assert "not a SavedModel" in error
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        f"Version 2 of model cannot be served: {error}"
    ]
    shutil.rmtree(broken)
    add(bundle, base_path, 2)
    manager.poll()
    assert states(manager) == {2: "AVAILABLE", 1: "END"}


def test_a_version_that_is_copied_slowly_is_served_once_it_is_complete(bundle, base_path):
    manager = loaded(base_path)
    source, target = bundle / stand_in.NAME / "2", base_path / "2"
    target.mkdir()
    shutil.copy2(source / "saved_model.pb", target)
    manager.poll()
    (_, state, error), _ = manager.status("model")
    assert (state, states(manager)[1]) == ("END", "AVAILABLE")
    assert "variables/variables" in error  # what is missing, and not TensorFlow's advice about devices
    # The times of the files are those of the source, and saved_model.pb stays as it is.
    shutil.copytree(source / "variables", target / "variables")
    manager.poll()
    assert states(manager) == {2: "AVAILABLE", 1: "END"}


def test_a_version_that_fails_is_not_loaded_again_unless_its_files_change(base_path, monkeypatch):
    manager = loaded(base_path)
    broken = base_path / "2"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"no SavedModel")
    manager.poll()
    monkeypatch.setattr("keras_mixer.serving.server.manager.Servable", lambda *_: pytest.fail("loaded again"))
    manager.poll()
    assert states(manager) == {2: "END", 1: "AVAILABLE"}


def test_a_folder_without_a_saved_model_is_no_version_yet(bundle, base_path):
    (base_path / "2").mkdir()
    (base_path / "partial").mkdir()
    add(bundle, base_path, 2**63)  # more than gRPC's numbers hold
    assert states(loaded(base_path)) == {1: "AVAILABLE"}


def test_folders_that_vanish_end_no_service(base_path, caplog):
    manager = loaded(base_path)
    base_path.rename(base_path.with_name("elsewhere"))
    for _ in range(3):
        manager.poll()
    assert states(manager) == {1: "AVAILABLE"}
    assert len([record for record in caplog.records if "cannot be read" in record.message]) == 1


def test_policies_and_labels(bundle, base_path):
    for number in (2, 3):
        add(bundle, base_path, number)
    assert states(loaded(base_path, versions="all")) == dict.fromkeys((3, 2, 1), "AVAILABLE")
    assert states(loaded(base_path, versions=2)) == dict.fromkeys((3, 2), "AVAILABLE")
    assert states(loaded(base_path, versions=(1, 2))) == dict.fromkeys((2, 1), "AVAILABLE")
    labelled = loaded(base_path, labels={"stable": 1})
    assert states(labelled) == dict.fromkeys((3, 1), "AVAILABLE")
    with labelled.use("model", label="stable") as servable:
        assert servable.version == 1


def test_changed_settings_take_over_once_their_versions_are_available(bundle, base_path):
    manager = loaded(base_path, versions=(1,), labels={"stable": 1, "canary": 1})
    changed = ModelConfig(base_path, versions=(1, 2), labels={"stable": 1, "canary": 2})

    def canary():
        with manager.use("model", label="canary") as servable:
            return servable.version

    manager.poll([changed])
    assert canary() == 1
    (base_path / "2").mkdir()
    (base_path / "2" / "saved_model.pb").write_bytes(b"no SavedModel")
    for _ in range(2):
        manager.poll([changed])
        assert canary() == 1
    shutil.rmtree(base_path / "2")
    add(bundle, base_path, 2)
    manager.poll([changed])
    assert canary() == 2
    assert states(manager) == {2: "AVAILABLE", 1: "AVAILABLE"}
    # What is loaded already stays loaded while version 4 is awaited.
    add(bundle, base_path, 3)
    kept = []
    for _ in range(2):
        manager.poll([ModelConfig(base_path, versions=(3,), labels={"canary": 4})])
        with manager.use("model", 3) as servable:
            kept.append(servable)
    assert kept[0] is kept[1]
    assert states(manager) == dict.fromkeys((3, 2, 1), "AVAILABLE")
    assert canary() == 2
    manager.poll([ModelConfig(base_path, versions=(2,), labels={"canary": 2})])
    assert states(manager) == {3: "END", 2: "AVAILABLE", 1: "END"}
    with pytest.raises(RequestError, match="Unrecognized servable version label"):
        manager.status("model", label="stable")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"base_path": "absent"}, "There is no folder"),
        ({"base_path": "empty"}, "has no versions"),
        ({"base_path": "model", "versions": (7,)}, r"lacks the versions \(7,\)"),
        ({"base_path": "model", "labels": {"stable": 7}}, "names version 7"),
        ({"base_path": "broken"}, "not a SavedModel"),
    ],
)
def test_what_cannot_be_served_is_told_at_the_start(base_path, tmp_path, config, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "saved_model.pb").write_bytes(b"")
    config["base_path"] = tmp_path / config["base_path"]
    with pytest.raises((OSError, ValueError), match=message):
        ModelManager([ModelConfig(**config)], Metrics()).load()


def test_two_models_of_one_name(base_path):
    with pytest.raises(ValueError, match="another name"):
        ModelManager([ModelConfig(base_path), ModelConfig(base_path)], Metrics())


def test_recorded_warm_up_requests_are_run(base_path, grpc_stubs):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    from keras_mixer.serving.server.servable import Servable, warm_up

    def record(signature, name, value):
        log = prediction_log_pb2.PredictionLog()
        request = log.predict_log.request
        request.model_spec.signature_name = signature
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return log.SerializeToString()

    records = base_path / "1" / "assets.extra" / "tf_serving_warmup_requests"
    records.parent.mkdir()
    with tf.io.TFRecordWriter(str(records)) as writer:
        writer.write(record("", "images", stand_in.images(0, 2)))
        writer.write(record("serving_bytes", "image_bytes", [stand_in.png(0)]))
    assert warm_up(Servable("model", 1, base_path / "1")) == 2
    with tf.io.TFRecordWriter(str(records)) as writer:
        writer.write(record("serving_bytes", "image_bytes", [b"no image"]))
    with pytest.raises(ValueError, match="Warm-up request 1"):
        warm_up(Servable("model", 1, base_path / "1"))
    with pytest.raises(ValueError, match="Warm-up request 1"):
        loaded(base_path)


def test_damaged_warm_up_requests_end_the_version_with_the_reason(bundle, base_path, grpc_stubs):
    import tensorflow as tf

    manager = loaded(base_path)
    for number in (2, 3):
        add(bundle, base_path, number)
        (base_path / str(number) / "assets.extra").mkdir()
    name = "assets.extra/tf_serving_warmup_requests"
    (base_path / "2" / name).write_bytes(b"no TFRecord at all")
    with tf.io.TFRecordWriter(str(base_path / "3" / name)) as writer:
        writer.write(b"no PredictionLog")
    for versions in ((2,), (3,)):
        manager.poll([ModelConfig(base_path, versions=versions)])
        state, error = {number: rest for number, *rest in manager.status("model")}[versions[0]]
        assert state == "END"
        assert "warm-up requests" in error
        assert "cannot be read" in error
    assert states(manager)[1] == "AVAILABLE"


def test_a_fault_of_any_kind_ends_the_version_and_is_raised_with_its_name_alone(base_path, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("out of luck")

    monkeypatch.setattr("keras_mixer.serving.server.manager.warm_up", fail)
    with pytest.raises(ValueError, match=r"^Version 1 of model cannot be served: RuntimeError: out of luck$"):
        loaded(base_path)
    assert not caplog.records


def test_a_model_without_records_is_warmed_with_blank_requests(bundle):
    from keras_mixer.serving.server.servable import Servable, warm_up

    servable = Servable("model", 1, bundle / stand_in.NAME / "1")
    assert warm_up(servable, (1, 4)) == 2 * len(stand_in.SIGNATURES)
