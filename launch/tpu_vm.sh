#!/usr/bin/env bash
# Trains on a Cloud TPU VM, a single host or a pod slice.
#
#   launch/tpu_vm.sh VERB [--dry-run] --name NAME --zone ZONE [options] \
#     [-- arguments of gdc.main]
#
# launch/README.md describes verbs and options. Options can also be set as
# environment variables: TPU_NAME, TPU_ZONE, TPU_TYPE, TPU_VERSION, TPU_PROJECT,
# TPU_CONFIG, TPU_WORKDIR, TPU_SPOT=1.
set -euo pipefail

readonly VERBS='create install run tail delete all'

name=${TPU_NAME:-}
zone=${TPU_ZONE:-}
type=${TPU_TYPE:-}
version=${TPU_VERSION:-}
project=${TPU_PROJECT:-}
config=${TPU_CONFIG:-configs/flow.py}
workdir=${TPU_WORKDIR:-}
spot=${TPU_SPOT:-}
dry_run=''
main_args=()

fail() {
  printf 'tpu_vm.sh: %s\n' "$*" >&2
  exit 2
}

# Prints a word, quoted for a POSIX shell.
quote() {
  case $1 in
    '' | *[!A-Za-z0-9_./:=@%+,-]*)
      printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")" ;;
    *) printf '%s' "$1" ;;
  esac
}

# Prints its arguments as one command line.
join() {
  local word separator=''
  for word in "$@"; do
    printf '%s%s' "$separator" "$(quote "$word")"
    separator=' '
  done
}

# Prints the command; runs it unless --dry-run was given.
execute() {
  printf '%s\n' "$(join "$@")"
  if [[ -z $dry_run ]]; then
    "$@"
  fi
}

# need OPTION VALUE EXAMPLE
need() {
  [[ -n $2 ]] || fail "--$1 is missing (or TPU_$(
    printf '%s' "$1" | tr '[:lower:]' '[:upper:]'
  )): for example --$1 $3"
}

# gcloud for one verb on this node: tpu VERB [arguments].
tpu() {
  local verb=$1
  shift
  local place=("--zone=$zone" --quiet)
  if [[ -n $project ]]; then
    place+=("--project=$project")
  fi
  execute gcloud compute tpus tpu-vm "$verb" "$@" "${place[@]}"
}

create() {
  local options=("--accelerator-type=$type" "--version=$version")
  if [[ -n $spot ]]; then
    options+=(--spot)
  fi
  tpu create "$name" "${options[@]}"
}

# Copies the last commit to every worker and installs it, with a Python from uv:
# that of the runtime images is too old.
install() {
  local root tarball
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  tarball="${TMPDIR:-/tmp}/gdc-$name.tar.gz"
  if [[ -z $dry_run && -n $(git -C "$root" status --porcelain) ]]; then
    printf 'tpu_vm.sh: uncommitted changes are not copied\n' >&2
  fi
  execute git -C "$root" archive --format=tar.gz "--output=$tarball" HEAD
  tpu scp "$tarball" "$name:gdc.tar.gz" --worker=all
  tpu ssh "$name" --worker=all "--command=set -e
rm -rf gdc && mkdir gdc && tar -xzf gdc.tar.gz -C gdc
PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
python3 -m uv venv --quiet --clear --seed --python 3.12 gdc-env
cd gdc && ../gdc-env/bin/pip install --quiet '.[train,tpu]'"
  execute rm -f "$tarball"
}

# Starts training on every worker, detached, so that it survives this connection.
# The shell ignores SIGTERM, for which training saves its step, to write the exit
# status.
run() {
  local main
  main=$(join ../gdc-env/bin/python -m gdc.main "--config=$config" \
    "--workdir=$workdir" ${main_args[@]+"${main_args[@]}"})
  tpu ssh "$name" --worker=all "--command=set -e
if [ -s gdc.pid ] && kill -0 \"\$(cat gdc.pid)\" 2>/dev/null; then
  echo 'gdc.main is already running here' >&2; exit 1
fi
rm -f gdc.status
cd gdc
nohup sh -c $(quote "trap : TERM; $main; echo \$? > ../gdc.status") \\
  > ../gdc.log 2>&1 < /dev/null &
echo \$! > ../gdc.pid"
}

# Follows the first worker's log until its run ends, with the run's status.
tail_log() {
  tpu ssh "$name" --worker=0 "--command=[ -s gdc.pid ] || {
  echo 'nothing was run here: use tpu_vm.sh run first' >&2; exit 1
}
tail -n 100 -F --pid=\"\$(cat gdc.pid)\" gdc.log
[ -s gdc.status ] || { echo 'gdc.main was killed' >&2; exit 1; }
exit \"\$(cat gdc.status)\""
}

delete() {
  tpu delete "$name"
}

(($# > 0)) || fail "the verb is missing: one of $VERBS"
verb=$1
shift
[[ " $VERBS " == *" $verb "* ]] || fail "the verb is '$verb': one of $VERBS"

while (($# > 0)); do
  case $1 in
    --) shift; main_args=("$@"); break ;;
    --dry-run) dry_run=1; shift; continue ;;
    --spot) spot=1; shift; continue ;;
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
  esac
  case $1 in
    --name | --zone | --type | --version | --project | --config | --workdir) ;;
    *) fail "unknown argument '$1': arguments of gdc.main come after --" ;;
  esac
  (($# > 1)) || fail "$1 needs a value"
  case $1 in
    --name) name=$2 ;;
    --zone) zone=$2 ;;
    --type) type=$2 ;;
    --version) version=$2 ;;
    --project) project=$2 ;;
    --config) config=$2 ;;
    --workdir) workdir=$2 ;;
  esac
  shift 2
done

need name "$name" gdc-flow
need zone "$zone" us-west4-a
case $verb in
  create | all)
    need type "$type" v5litepod-16
    need version "$version" v2-alpha-tpuv5-lite ;;
esac
case $verb in
  run | all)
    need workdir "$workdir" gs://bucket/flow
    case $workdir in
      gs://* | /*) ;;
      *) fail "--workdir is '$workdir': gs://bucket/folder is expected, or an" \
        'absolute path on the worker where there is one worker only' ;;
    esac ;;
esac

case $verb in
  create) create ;;
  install) install ;;
  run) run ;;
  tail) tail_log ;;
  delete) delete ;;
  all)
    # A node that is left running costs money, but may hold unsaved work.
    trap 'printf "tpu_vm.sh: %s may still be up: tail or delete it\n" \
      "$name" >&2' EXIT
    create
    install
    run
    tail_log
    delete
    trap - EXIT
    ;;
esac
