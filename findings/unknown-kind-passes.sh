#!/usr/bin/env bash
# kubernetes-validate 1.37.0: also with --strict, a manifest whose kind is mistyped, or whose apiVersion Kubernetes no
# longer has, is a line that begins with WARN and exit code 0, so that a pipeline which looks at the code lets it pass;
# the API server refuses both. An unknown field of a kind that is known is an error, and exit code 1.
#
# Guessed before: what --strict passes, the API server of that version takes.
#
# Seen: mistyped kind: exit code 0, WARN; apiVersion that was removed: exit code 0, WARN; unknown field: exit code 1, ERROR
#
# Source: kubernetes_validate/utils.py, validate_resource (SchemaNotFoundError is printed, and is no error); Kubernetes'
# Deprecated API Migration Guide (policy/v1beta1 PodDisruptionBudget is no longer served since v1.25).

set -euo pipefail
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps kubernetes-validate==1.37.0 pyyaml==6.0.3 \
    jsonschema==4.26.0 jsonschema-specifications==2025.9.1 referencing==0.37.0 rpds-py==0.30.0 attrs==25.4.0 \
    importlib-resources==6.5.2 packaging==25.0 typing-extensions==4.15.0

cat >"$work/mistyped-kind.yaml" <<'EOF'
apiVersion: apps/v1
kind: Deploymnet
metadata: {name: web}
spec: {}
EOF
cat >"$work/removed-version.yaml" <<'EOF'
apiVersion: policy/v1beta1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
EOF
cat >"$work/unknown-field.yaml" <<'EOF'
apiVersion: v1
kind: ConfigMap
metadata: {name: web}
dta: {}
EOF

seen=
for manifest in mistyped-kind removed-version unknown-field; do
    code=0
    output=$("$work/venv/bin/kubernetes-validate" --strict --kubernetes-version 1.37 "$work/$manifest.yaml") || code=$?
    echo "$manifest: exit code $code: ${output//$work\//}"
    seen+="${output%% *} $code; "
done
if [ "$seen" != "WARN 0; WARN 0; ERROR 1; " ]; then
    echo "CHANGED: $seen" >&2
    exit 1
fi
