#!/usr/bin/env bash
# Kills SAE trainings with SIGKILL at random moments, resumes them, and compares their weights with those of a training that was never stopped:
# `tests/sigkill.sh [TRAININGS]`, 20 by default; half of them with streamed and half with cached activations, of six kinds. Each is killed once at least and three
# times at most, and goes on with one or two threads, drawn anew each time.
# Needs `cargo build --release`. Prints a line for each and `N of N are the same`; exits 1 where one differs.
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:-20}
monosem=$PWD/target/release/monosem
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
seed=$(date +%s)
RANDOM=$((seed % 32768))
echo "seed of the moments: $((seed % 32768))"

run() { "$monosem" "$@" --dir "$dir" --run tiny >"$dir/log" 2>&1; }
run quickstart --preset tiny --no-serve
run harvest --dtype f32
# An SAE, two on one pass, one whose dead latents are resampled, one whose coefficient is steered, one whose k falls and whose latents are sorted, one with trained thresholds.
kinds=("--k 16" "--k 8,16" "--recipe relu-2023" "--recipe relu-april-2024 --target-l0 12"
  "--recipe matryoshka --k 8 --set k_start=24 --set sort_every=20" "--recipe jump-relu --target-l0 12")
train=(sae train --d-sae 1024 --batch 512 --rows 200000 --snapshots 0 --buffer-mib 16)
# Of all SAEs of this name: a sweep's are NAME-k8 and NAME-k16.
weights() { cat "$dir/tiny/sae/$1"{,-k*}/sae_weights.safetensors 2>/dev/null | sha256sum | cut -d' ' -f1; }

for ((i = 0; i < kills && i < 2 * ${#kinds[@]}; i++)); do
  how=streamed flags=()
  [ $((i % 2)) = 0 ] && { how=cached; flags=(--cached); }
  kind=$((i / 2 % ${#kinds[@]}))
  # shellcheck disable=SC2086
  run "${train[@]}" ${kinds[$kind]} "${flags[@]}" --name "whole-$how-$kind"
done

same=0
for ((i = 0; i < kills; i++)); do
  how=streamed flags=()
  [ $((i % 2)) = 0 ] && { how=cached; flags=(--cached); }
  kind=$((i / 2 % ${#kinds[@]})) name="killed-$i" killed=0 with=""
  # Killed until it gets to its end in the time it is given.
  while true; do
    threads=$((1 + RANDOM % 2)) with="$with $threads"
    # shellcheck disable=SC2086
    "$monosem" "${train[@]}" ${kinds[$kind]} "${flags[@]}" --name "$name" --resume --threads "$threads" --dir "$dir" --run tiny >"$dir/log" 2>&1 &
    pid=$!
    if [ $killed -ge 3 ]; then wait $pid; break; fi
    sleep "$(printf '%d.%03d' $((RANDOM % 3)) $((RANDOM % 1000)))"
    if kill -9 $pid 2>/dev/null; then killed=$((killed + 1)); wait $pid 2>/dev/null || true; continue; fi
    wait $pid
    [ $killed = 0 ] || break
    # It was done before the moment came: nothing is shown by that.
    rm -rf "$dir/tiny/sae/$name"{,-k*} "$dir/tiny/checkpoints/sae-$name"{,-k*}
  done
  told="$((i + 1)) ${kinds[$kind]}, $how, threads$with: killed $killed times"
  if [ "$(weights "$name")" = "$(weights "whole-$how-$kind")" ]; then
    same=$((same + 1)); echo "$told, the same"
  else
    echo "$told, DIFFERENT"
  fi
done
echo "$same of $kills are the same"
[ "$same" = "$kills" ]
