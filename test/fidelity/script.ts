// Makes a shell script of cases, which prints for each what came of it; and reads what it printed.

import type { Case } from './case.ts'

/**
 * What cases look with. Everything is printed as it is for root, so that it can be compared; the flags of a mount without
 * nodev, at which cases of its own look, and without the relatime that the kernel adds.
 */
const FUNCTIONS = `
said() { echo "$1" | sed 's/.*: //'; }
tries() { if out=$("$@" 2>&1); then echo "$1 ok"; else said "$out"; return 1; fi; }
opens() { [ -e "$1" ] || return; if out=$( (: >"$1") 2>&1 ); then echo opens; else said "$out"; fi; }
node() { stat -c '%F %t:%T, mode %a, %u:%g' "$1" 2>/dev/null || echo "no node"; }
mounted() { awk -v p="$(readlink -f "$1")" '$5 == p { last = $0 } END { print last }' /proc/self/mountinfo; }
flags() {
  mounted "$1" | awk '
    function known(all) { kept = ""; n = split(all, f, ","); for (j = 1; j <= n; j++)
      if (f[j] ~ /^(ro|nosuid|noexec|noatime|nodiratime|nosymfollow|sync|dirsync|mand|lazytime)$/) kept = kept " " f[j]; return kept }
    { for (i = 7; i < NF && $i != "-"; i++); print i < NF ? "flags:" known($6) " /" known($(i + 3)) : "not mounted" }'
}
shares() { mounted "$1" | awk '{ for (i = 7; i < NF && $i != "-"; i++) { sub(":.*", "", $i); printf "%s ", $i } print i == 7 ? "private" : "" }'; }
below() { mounted "$1" | awk '{ for (i = 7; i < NF && $i != "-"; i++); print i < NF ? $(i + 1) " is mounted" : "not mounted" }'; }
attributes() { getfattr -d -m - --absolute-names "$@" 2>/dev/null | grep -v '^#' | grep . | sort | xargs; }
`

/** A case in an empty directory, in a mount namespace of its own, and nothing of it left behind it. */
const body = ({ before = '', calls, shows = '' }: Case): string => `${FUNCTIONS}
mkdir w && cd w || exit
{ ${before || ':'}; } >/dev/null
"$CALLS" ${calls}
{ ${shows || ':'}; } 2>/dev/null
cd ..
awk -v p="$PWD/" 'index($5, p) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r at; do umount -l "$at"; done
rm -rf w
`

const MARK = '== '
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

/** One script for all cases, in their order. */
export const scriptOf = (cases: readonly Case[]): string =>
  cases
    .map((one, index) => `echo "${MARK}${index}"; timeout -k 1 10 unshare --mount sh -c ${quoted(body(one))} 2>&1`)
    .join('\n')

/** What was printed for each case: what its calls gave, and what was seen after them. */
export const outcomes = (printed: string): readonly string[] =>
  printed
    .split(new RegExp(`^${MARK}\\d+\\n`, 'm'))
    .slice(1)
    .map((text) =>
      text
        .trim()
        .split('\n')
        .map((line) => line.trim())
        .join('; '),
    )
