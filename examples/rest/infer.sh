#!/usr/bin/env bash
# The Open Inference Protocol over HTTP with curl alone. Start the server with --rest-port 8000, then
#   examples/rest/infer.sh 127.0.0.1:8000 vae.encode
set -euo pipefail
export no_proxy="localhost,127.0.0.1,::1${no_proxy:+,$no_proxy}" # this machine needs no proxy
address=${1:-127.0.0.1:8000}
graph=${2:-vae.encode}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "# is it ready?"
curl --fail --silent --show-error "http://$address/v2/health/ready"
echo

echo "# what does $graph take and give?"
curl --fail --silent --show-error "http://$address/v2/models/$graph" | tee "$work/metadata"
echo

# Sizes of one image, from the metadata: [-1,H,W,C].
shape=$(sed 's/.*"inputs":\[[^]]*"shape":\[-1,\([0-9,]*\)\].*/\1/' "$work/metadata")
count=$((${shape//,/*}))

echo "# one black image as JSON"
data=$(seq "$count" | sed 's/.*/0/' | paste -sd, -)
curl --fail --silent --show-error "http://$address/v2/models/$graph/infer" \
    --header 'Content-Type: application/json' \
    --data "{\"inputs\":[{\"name\":\"images\",\"datatype\":\"UINT8\",\"shape\":[1,$shape],\"data\":[$data]}]}"
echo

echo "# the same as bytes behind the JSON"
printf '{"inputs":[{"name":"images","datatype":"UINT8","shape":[1,%s],"parameters":{"binary_data_size":%d}}]}' \
    "$shape" "$count" >"$work/head"
head -c "$count" /dev/zero | cat "$work/head" - >"$work/body"
curl --fail --silent --show-error "http://$address/v2/models/$graph/infer" \
    --header "Inference-Header-Content-Length: $(wc -c <"$work/head" | tr -d ' ')" \
    --data-binary "@$work/body"
echo
