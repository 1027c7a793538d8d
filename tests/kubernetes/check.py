"""Renders deploy/kubernetes and deploy/helm by the real kubectl and helm and holds the objects against what has to be true of them.

`make kubernetes` calls it: check.py TOOLS BINARY, where TOOLS is the folder that tools.sh fills and BINARY a scopegate.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS, BINARY = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])

# The oldest release that the manifests say they are for, and the newest that the validator knows.
RELEASES = ["1.29.0", "1.37.0"]

# Rules of the policy checker that do not hold here, each with its reason.
SKIPPED = {
    "CKV_K8S_15": "imagePullPolicy Always: a tag of scopegate is never moved, and a node without its registry can still start a pod",
    "CKV_K8S_43": "an image by digest: the digest is that of the registry you push to, so it is for your overlay to say",
}

OVERLAYS = {"single": [], "redis": ["--values", "ci/redis.yaml"]}
passed = 0


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, **options)
    if done.returncode != 0:
        sys.exit(f"FAILED {' '.join(str(part) for part in command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def holds(what, true, detail=""):
    global passed
    if not true:
        sys.exit(f"FAILED {what}\n{detail}")
    passed += 1
    print(f"ok: {what}")


def objects(text):
    """The objects of a stream by kind and name."""
    found = {}
    for item in yaml.safe_load_all(text):
        if item:
            key = (item["kind"], item["metadata"]["name"])
            assert key not in found, f"twice: {key}"
            found[key] = item
    return found


def without_packaging(item):
    """An object without what only the one or the other way of packing it says: labels of Helm, comments in ConfigMaps, default
    namespaces."""
    if isinstance(item, dict):
        packing = ("app.kubernetes.io/managed-by", "app.kubernetes.io/version", "app.kubernetes.io/instance", "helm.sh/chart")
        return {key: without_packaging(value) for key, value in item.items() if key not in packing}
    if isinstance(item, list):
        plain = [without_packaging(value) for value in item]
        # The order of volumes and rules means nothing.
        return sorted(plain, key=lambda value: json.dumps(value, sort_keys=True))
    return item


def meaning(item):
    plain = without_packaging(item)
    if item["kind"] == "ConfigMap":
        plain["data"] = {name: yaml.safe_load(text) for name, text in plain["data"].items()}
    return plain


def workload(found):
    return next(item for (kind, _), item in found.items() if kind in ("StatefulSet", "Deployment"))


def check_schemas(name, found):
    for (kind, own), item in found.items():
        if kind == "ServiceMonitor":
            script = "import {ServiceMonitor} from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1';"
            script += "new ServiceMonitor(JSON.parse(process.argv[1])).validate()"
            run("node", "--input-type=module", "--eval", script, json.dumps(item), cwd=TOOLS / "models")
            continue
        for release in RELEASES:
            try:
                kubernetes_validate.validate(item, release, strict=True)
            except kubernetes_validate.ValidationError as error:
                sys.exit(f"FAILED {name}: {kind} {own} is not valid in Kubernetes {release}: {error.message} at {list(error.path)}")
    holds(f"{name}: {len(found)} objects are valid in Kubernetes {' and '.join(RELEASES)}", len(found) > 8)


def check_agreement(name, found):
    """What no schema can say: parts that have to fit each other."""
    work = workload(found)
    template = work["spec"]["template"]
    labels, pod = template["metadata"]["labels"], template["spec"]
    container = pod["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    # Every selector selects these pods.
    selectors = {"workload": work["spec"]["selector"]["matchLabels"]}
    for (kind, own), item in found.items():
        if kind == "Service":
            selectors[own] = item["spec"]["selector"]
            for port in item["spec"]["ports"]:
                holds(f"{name}: service {own} leads to a port of the pod", port["targetPort"] in ports, port)
        if kind == "PodDisruptionBudget":
            selectors[kind] = item["spec"]["selector"]["matchLabels"]
        if kind == "NetworkPolicy":
            selectors[kind] = item["spec"]["podSelector"]["matchLabels"]
    for what, selector in selectors.items():
        holds(f"{name}: the selector of {what} selects the pod", selector.items() <= labels.items(), (selector, labels))
    monitor = found[("ServiceMonitor", "scopegate")]["spec"]
    service = found[("Service", "scopegate-metrics")]
    holds(f"{name}: the monitor selects the service of metrics", monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items())
    holds(f"{name}: the job is called scopegate", service["metadata"]["labels"][monitor["jobLabel"]] == "scopegate")
    # What is mounted is there.
    for volume in pod["volumes"]:
        if "configMap" in volume:
            holds(f"{name}: ConfigMap {volume['configMap']['name']} is there", ("ConfigMap", volume["configMap"]["name"]) in found)
    holds(f"{name}: nothing is mounted by subPath, which is never updated", not any("subPath" in mount for mount in container["volumeMounts"]))
    # The end of a pod fits the gateway's.
    gateway = yaml.safe_load(found[("ConfigMap", "scopegate-config")]["data"]["gateway.yaml"])
    drain = int(gateway["edge"]["drain_timeout"].removesuffix("s"))
    holds(f"{name}: the grace period is longer than the drain", pod["terminationGracePeriodSeconds"] >= drain + 10)
    holds(f"{name}: the endpoints have time to go", int(gateway["edge"]["drain_delay"].removesuffix("s")) >= 5)
    holds(f"{name}: the probes ask the metrics listener", gateway["metrics"]["address"] == f"0.0.0.0:{ports['metrics']}")
    holds(f"{name}: the listener is the port of the pod", gateway["listeners"][0]["address"] == f"0.0.0.0:{ports['http']}")


def check_restricted(name, found):
    """The Pod Security Standard `restricted`, which the namespace enforces."""
    pod = workload(found)["spec"]["template"]["spec"]
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    holds(f"{name}: volumes of kinds that `restricted` lets", kinds <= {"configMap", "secret", "emptyDir", "projected", "persistentVolumeClaim"}, kinds)
    security, own = pod["securityContext"], pod["containers"][0]["securityContext"]
    plain = security["runAsNonRoot"] and security["runAsUser"] != 0 and security["seccompProfile"]["type"] == "RuntimeDefault"
    less = own["allowPrivilegeEscalation"] is False and own["capabilities"] == {"drop": ["ALL"]}
    nothing = not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")) and not own.get("privileged")
    holds(f"{name}: the pod keeps to `restricted`", plain and less and nothing)


def check_configuration(name, found):
    """The mounted files, as the kubelet lays them, load."""
    pod = workload(found)["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    with tempfile.TemporaryDirectory() as root:
        folder = pathlib.Path(root)
        for volume in pod["volumes"]:
            place = folder / mounts[volume["name"]].lstrip("/")
            place.mkdir(parents=True)
            if "configMap" in volume:
                for file, text in found[("ConfigMap", volume["configMap"]["name"])]["data"].items():
                    (place / file).write_text(text)
            if "secret" in volume:
                (place / "redis").write_text("rediss://scopegate:password@redis.redis.svc:6379/0")
                (place / "store").write_text("0" * 64)
        config = folder / "etc/scopegate/config/gateway.yaml"
        (folder / "var/lib/scopegate").mkdir(parents=True, exist_ok=True)
        # Its own working directory, as the image has it.
        run(BINARY, "check", "--config", config, cwd=folder / "var/lib/scopegate")
    holds(f"{name}: scopegate check loads what is mounted", True)


def check_policies(name, text):
    with tempfile.TemporaryDirectory() as root:
        file = pathlib.Path(root) / f"{name}.yaml"
        file.write_text(text)
        command = [TOOLS / "venv/bin/python", TOOLS / "venv/bin/checkov", "--framework", "kubernetes", "--file", file, "--output", "json"]
        command += ["--skip-check", ",".join(SKIPPED), "--compact", "--quiet", "--skip-download"]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
        try:
            report = json.loads(done.stdout)
        except ValueError:
            sys.exit(f"FAILED checkov\n{done.stdout}{done.stderr}")
    failed = [f"{check['check_id']} {check['check_name']}: {check['resource']}" for check in report["results"]["failed_checks"]]
    holds(f"{name}: {report['summary']['passed']} rules of checkov hold", not failed and report["summary"]["passed"] > 70, "\n".join(failed))


def check_helm_takes_faults():
    for wrong in ["store=postgres", "image.repositry=x", "autoscaling.min=1"]:
        done = subprocess.run([TOOLS / "bin/helm", "template", "scopegate", ROOT / "deploy/helm/scopegate", "--set", wrong], capture_output=True, text=True, timeout=60)
        holds(f"the chart refuses --set {wrong}", done.returncode != 0 and "schema" in done.stderr.lower(), done.stderr)


def check_other_names():
    """A release of another name has no object in common with this one, and selects no pod of it."""
    text = run(TOOLS / "bin/helm", "template", "second", ROOT / "deploy/helm/scopegate", "--namespace", "scopegate")
    found = objects(text)
    holds("a second release has names of its own", all(own.split("-")[0] == "second" for _, own in found))
    selector = found[("Service", "second")]["spec"]["selector"]
    holds("a second release selects its own pods", selector["app.kubernetes.io/instance"] == "second")


for name, values in OVERLAYS.items():
    kustomized = run(TOOLS / "bin/kubectl", "kustomize", ROOT / "deploy/kubernetes/overlays" / name)
    chart = ROOT / "deploy/helm/scopegate"
    run(TOOLS / "bin/helm", "lint", "--strict", chart, *values, cwd=chart)
    templated = run(TOOLS / "bin/helm", "template", "scopegate", chart, "--namespace", "scopegate", *values, cwd=chart)
    one, other = objects(kustomized), objects(templated)
    for what, text, found in [(f"kustomize {name}", kustomized, one), (f"helm {name}", templated, other)]:
        check_schemas(what, found)
        check_agreement(what, found)
        check_restricted(what, found)
        check_configuration(what, found)
        check_policies(what, text)
    # Helm does not make the namespace that it installs into.
    one.pop(("Namespace", "scopegate"))
    holds(f"{name}: both ways make the same objects", one.keys() == other.keys(), one.keys() ^ other.keys())
    for key in one:
        left, right = meaning(one[key]), meaning(other[key])
        holds(f"{name}: {' '.join(key)} is the same", left == right, f"kustomize: {json.dumps(left, sort_keys=True)}\nhelm:      {json.dumps(right, sort_keys=True)}")
check_helm_takes_faults()
check_other_names()
print(f"{passed} passed, 0 failed")
