"""The Python client in a pod, by its in-cluster configuration and nothing else.

main.py NAMESPACE POD: one thing of each kind, and a line printed for each.
"""

import base64
import json
import sys

from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import stream

NAME = "of-python"
NAMESPACE, POD = sys.argv[1:]

config.load_incluster_config()
api = client.CoreV1Api()

wanted = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=NAME), data={"x": "one"})
made = api.create_namespaced_config_map(NAMESPACE, wanted)
got = api.read_namespaced_config_map(NAME, NAMESPACE)
print("got", got.data["x"])
api.patch_namespaced_config_map(NAME, NAMESPACE, {"data": {"x": "two"}})
for one in api.list_namespaced_config_map(NAMESPACE).items:
    if one.metadata.name == NAME:
        print("listed", one.data["x"])
api.delete_namespaced_config_map(NAME, NAMESPACE)
events = watch.Watch().stream(
    api.list_namespaced_config_map,
    NAMESPACE,
    field_selector=f"metadata.name={NAME}",
    resource_version=made.metadata.resource_version,
    timeout_seconds=30,
)
for seen, event in enumerate(events, 1):
    print("watched", event["type"])
    if seen == 2:
        break
secret = api.read_namespaced_secret("db", NAMESPACE)
print("secret", base64.b64decode(secret.data["password"]).decode())

# Over WebSocket, whose frames this library writes itself.
running = stream(
    api.connect_get_namespaced_pod_exec,
    POD,
    NAMESPACE,
    command=["sh", "-c", "read line; echo $line; exit 3"],
    stdin=True,
    stdout=True,
    stderr=True,
    tty=False,
    _preload_content=False,
)
running.write_stdin("through\n")
running.run_forever(timeout=60)
print("ran", running.read_stdout().strip(), running.returncode)

try:
    api.delete_namespaced_config_map(NAME, "kube-system")
except ApiException as error:
    told = json.loads(error.body)
    print("denied", error.status, told["reason"], told["message"].partition(":")[0])
