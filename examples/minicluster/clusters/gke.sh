#!/bin/sh
# gke.sh NODES: the study's cluster on Google Cloud, with so many nodes (it had 6 and 30).
# gke.sh delete NODES: removes it again.
# The project is that of gcloud's configuration; LOCATION is a zone.

set -eu

usage() {
    echo "usage: gke.sh NODES, or gke.sh delete NODES" >&2
    exit 2
}

location=${LOCATION:-us-central1-a}
network=flux-tree

what=create
if [ "${1-}" = delete ]; then
    what=delete
    shift
fi
[ $# -eq 1 ] || usage
case $1 in '' | 0* | *[!0-9]*) usage ;; esac
nodes=$1

if [ "$what" = delete ]; then
    exec gcloud container clusters delete "flux-tree-$nodes" --location="$location"
fi

# packets of up to 8896 bytes, the most there: more data for each of them
if ! gcloud compute networks describe "$network" >/dev/null 2>&1; then
    gcloud compute networks create "$network" --subnet-mode=auto --mtu=8896
fi
exec gcloud container clusters create "flux-tree-$nodes" \
    --location="$location" \
    --num-nodes="$nodes" \
    --machine-type=c2d-standard-32 \
    --threads-per-core=1 \
    --enable-gvnic \
    --network="$network" \
    --placement-type=COMPACT
