"""How TF Serving is started: arguments, a Compose file, a Dockerfile and Kubernetes manifests, as plain values."""

import re

from keras_mixer.export.serving_files import METRICS_PATH, MODELS_FOLDER

IMAGE = "tensorflow/serving:2.20.0"
CONFIG_FOLDER = "/config"
GRPC_PORT, REST_PORT = 8500, 8501
PORTS = {"grpc": GRPC_PORT, "rest": REST_PORT}

ARGUMENTS = [
    f"--model_config_file={CONFIG_FOLDER}/models.config",
    # The file is read again: where it is mounted, a new version or a moved label needs no restart.
    "--model_config_file_poll_wait_seconds=30",
    # Labels are set as the server starts, before the versions they name are loaded.
    "--allow_version_labels_for_unavailable_models=true",
    "--enable_batching=true",
    f"--batching_parameters_file={CONFIG_FOLDER}/batching_parameters.txt",
    f"--monitoring_config_file={CONFIG_FOLDER}/monitoring.config",
]


def compose(name: str) -> dict:
    """The Compose file: one server, reached from this machine alone."""
    server = {
        "image": IMAGE,
        "command": ARGUMENTS,
        "ports": [f"127.0.0.1:{port}:{port}" for port in PORTS.values()],
        # The folder is mounted, not its files: a replaced file would stay invisible behind its own mount.
        "volumes": [f"./models:{MODELS_FOLDER}:ro", f".:{CONFIG_FOLDER}:ro"],
        # The REST port opens once every model is loaded. The image has no curl.
        "healthcheck": {
            "test": ["CMD", "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{REST_PORT}"],
            "interval": "10s",
            "start_period": "60s",
        },
        "restart": "unless-stopped",
    }
    return {"name": _dns_label(name), "services": {"serving": server}}


def dockerfile() -> str:
    """An image that holds the bundle, for clusters that cannot mount it."""
    files = "models.config batching_parameters.txt monitoring.config"
    return f"FROM {IMAGE}\nCOPY models {MODELS_FOLDER}\nCOPY {files} {CONFIG_FOLDER}/\n"


def image_name(name: str, version: int) -> str:
    """The image of the Dockerfile, tagged with the newest version in it."""
    return f"{_dns_label(name)}-serving:{version}"


def kubernetes(name: str, version: int, megabytes: int) -> dict[str, dict]:
    """Deployment, Service and HorizontalPodAutoscaler, by file name.

    Args:
        name: The model's name.
        version: The newest version, which tags the image.
        megabytes: Size of the SavedModels; memory is asked for in proportion.
    """
    service_name = f"{_dns_label(name)}-serving"
    labels = {"app.kubernetes.io/name": service_name}
    model_status = {"httpGet": {"path": f"/v1/models/{name}", "port": "rest"}}
    container = {
        "name": "serving",
        "image": image_name(name, version),
        "imagePullPolicy": "IfNotPresent",
        "args": ARGUMENTS,
        "ports": [{"name": port, "containerPort": number} for port, number in PORTS.items()],
        # A large model takes minutes to load and warm up; until then the pod gets no requests and is not restarted.
        "startupProbe": {**model_status, "periodSeconds": 5, "failureThreshold": 120},
        "readinessProbe": {**model_status, "periodSeconds": 5},
        "livenessProbe": {"tcpSocket": {"port": "grpc"}, "periodSeconds": 20},
        "resources": {
            "requests": {"cpu": "2", "memory": f"{512 + 3 * megabytes}Mi"},
            "limits": {"memory": f"{1024 + 6 * megabytes}Mi"},
        },
        "securityContext": {"allowPrivilegeEscalation": False},
    }
    scrape = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(REST_PORT),
        "prometheus.io/path": METRICS_PATH,
    }
    metadata = {"name": service_name, "labels": labels}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        # No number of replicas: that is the autoscaler's.
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": scrape},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 60},
            },
        },
    }
    ports = [{"name": port, "port": number, "targetPort": port} for port, number in PORTS.items()]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": labels, "ports": ports},
    }
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata,
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": service_name},
            "minReplicas": 1,
            "maxReplicas": 4,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
                }
            ],
        },
    }
    return {"deployment.yaml": deployment, "service.yaml": service, "hpa.yaml": autoscaler}


def _dns_label(name: str) -> str:
    """The name as Kubernetes and Compose take it: lower case, digits and hyphens, a letter first (RFC 1035)."""
    label = re.sub(r"[^a-z0-9]+", "-", name.lower())
    return label if label[0].isalpha() else f"m-{label}"
