#!/usr/bin/env bash
# Kills SAE trainings with SIGKILL at random moments, resumes them, and compares their weights with those of a training that was never stopped:
# `tests/sigkill.sh [KILLS]`, 20 by default; half of them with streamed and half with cached activations, alternately at one and two threads.
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
train=(sae train --d-sae 1024 --k 16 --batch 512 --rows 200000 --snapshots 0 --buffer-mib 16)
weights() { sha256sum "$dir/tiny/sae/$1/sae_weights.safetensors" | cut -d' ' -f1; }

for how in streamed cached; do
  flags=(); [ "$how" = cached ] && flags=(--cached)
  run "${train[@]}" "${flags[@]}" --name "whole-$how"
done

same=0
for ((i = 1; i <= kills; i++)); do
  how=streamed flags=()
  [ $((i % 2)) = 0 ] && { how=cached; flags=(--cached); }
  threads=$((1 + i / 2 % 2)) name="killed-$i" killed=0
  # Killed until it gets to its end in the time it is given.
  while true; do
    "$monosem" "${train[@]}" "${flags[@]}" --name "$name" --resume --threads "$threads" --dir "$dir" --run tiny >"$dir/log" 2>&1 &
    pid=$!
    if [ $killed -ge 3 ]; then wait $pid; break; fi
    sleep "$(printf '%d.%03d' $((RANDOM % 3)) $((RANDOM % 1000)))"
    if kill -9 $pid 2>/dev/null; then killed=$((killed + 1)); wait $pid 2>/dev/null || true; else wait $pid; break; fi
  done
  if [ "$(weights "$name")" = "$(weights "whole-$how")" ]; then
    same=$((same + 1)); echo "$i $how, $threads threads: killed $killed times, the same"
  else
    echo "$i $how, $threads threads: killed $killed times, DIFFERENT"
  fi
done
echo "$same of $kills are the same"
[ "$same" = "$kills" ]
