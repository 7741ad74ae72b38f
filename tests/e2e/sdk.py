"""What a user of upstream's Python SDK does first: create, wait, look up, list, delete. Prints one JSON object."""

import json
import sys
import time

from kubernetes import client, config
from k8s_agent_sandbox import SandboxClient
from k8s_agent_sandbox.exceptions import SandboxNotFoundError, SandboxWarmPoolNotFoundError

kubeconfig, namespace, pool = sys.argv[1:]
api = config.new_client_from_config(config_file=kubeconfig)
sandboxes = SandboxClient(api_client=api)

began = time.monotonic()
sandbox = sandboxes.create_sandbox(pool, namespace=namespace, sandbox_ready_timeout=240)
seen = {"ready_ms": round((time.monotonic() - began) * 1000, 1)}
seen["claim"], seen["sandbox"] = sandbox.claim_name, sandbox.sandbox_id

found = sandboxes.get_sandbox(sandbox.claim_name, namespace=namespace)
seen["found"] = found.sandbox_id
seen["listed"] = sandboxes.list_all_sandboxes(namespace=namespace)

# The env variables force a cold start. The pool's template allows them.
cold = sandboxes.create_sandbox(pool, namespace=namespace, sandbox_ready_timeout=240, env={"TASK": "7842"})
seen["cold"] = {"claim": cold.claim_name, "sandbox": cold.sandbox_id}
pod = client.CoreV1Api(api).read_namespaced_pod(cold.sandbox_id, namespace)
seen["cold"]["env"] = {e.name: e.value for e in pod.spec.containers[0].env or []}

# The SDK gives up on a missing pool, so the operator must report it, but only when it is certain.
try:
    sandboxes.create_sandbox("no-such-pool", namespace=namespace, sandbox_ready_timeout=240)
    seen["missing_pool"] = "created"
except SandboxWarmPoolNotFoundError:
    seen["missing_pool"] = "not found"

for name in (sandbox.claim_name, cold.claim_name):
    sandboxes.delete_sandbox(name, namespace=namespace)
deadline = time.monotonic() + 240
while sandboxes.list_all_sandboxes(namespace=namespace) and time.monotonic() < deadline:
    time.sleep(0.05)
seen["left"] = sandboxes.list_all_sandboxes(namespace=namespace)
try:
    sandboxes.get_sandbox(sandbox.claim_name, namespace=namespace, resolve_timeout=2)
    seen["after_deletion"] = "found"
except SandboxNotFoundError:
    seen["after_deletion"] = "not found"
print(json.dumps(seen))
