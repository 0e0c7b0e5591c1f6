// The suites of `npm run suites`, and how a line of their output says how a test ended.

/** The tests of coreutils that want root of the machine, as its tests/local.mk names them, and those of nodes. */
const COREUTILS = `cd coreutils
tests=$(sed -n '/^all_root_tests/,/^$/p' tests/local.mk | grep -o 'tests/[^ ]*')
make -s check SUBDIRS=. TESTS="$(echo tests/misc/mknod.sh tests/cp/special-f.sh tests/misc/xattr.sh tests/nice/nice.sh $tests)" VERBOSE=yes`

/** Those parts of util-linux that mount, unmount, configure loop devices and change the scheduling. */
const UTIL_LINUX =
  'cd util-linux/tests && ./run.sh --parsable --parallel=1 mount libmount losetup findmnt schedutils misc/mountpoint'

const STRESSORS = [
  ...[
    'mknod',
    'sysinfo',
    'schedpolicy',
    'schedmix',
    'resched',
    'nice',
    'xattr',
    'umount',
    'ramfs',
    'tmpfs',
    'statmount',
  ],
  ...['null', 'zero', 'full', 'urandom', 'loop', 'chmod', 'chown', 'chroot', 'rename', 'link', 'unlink', 'mq', 'sysfs'],
]
const STRESS_NG = `export LD_LIBRARY_PATH=$PWD/stress-ng/usr/lib/x86_64-linux-gnu
work=$(mktemp -d) && cd "$work"
for name in ${STRESSORS.join(' ')}; do
  timeout 60 "$OLDPWD/stress-ng/usr/bin/stress-ng" --verify "--$name" 1 "--$name-ops" 50 -t 5 --temp-path "$work" 2>&1
done
rm -rf "$work"`

const ENDS = new Map([
  ...['PASS', 'OK', 'passed'].map((word) => [word, 'pass']),
  ...['FAIL', 'ERROR', 'FAILED', 'failed'].map((word) => [word, 'fail']),
  ...['SKIP', 'SKIPPED', 'skipped'].map((word) => [word, 'skip']),
])
/** @param line with the groups `name` and `end` */
const reads = (line) => (text) =>
  new Map([...text.matchAll(line)].map(({ groups: { name, end } }) => [name, ENDS.get(end)]))

/** A test of util-linux has a line for each part of it, and one for all of them, which may have the name of the last part. */
function readUtilLinux(text) {
  const lines = [...text.matchAll(/^ *([\w-]+: .*?) +\.\.\. (OK|FAILED|SKIPPED)\b(.*)$/gm)]
  const whole = lines.filter(([, name, , rest]) => !/: \[\d+\]/.test(name) || rest.includes('sub-tests'))
  return new Map(whole.map(([, name, end]) => [name.replace(/: \[\d+\].*/, ''), ENDS.get(end)]))
}

export const suites = [
  { name: 'coreutils', script: COREUTILS, read: reads(/^(?<end>PASS|FAIL|SKIP|ERROR): (?<name>\S+)$/gm) },
  { name: 'util-linux', script: UTIL_LINUX, read: readUtilLinux },
  { name: 'stress-ng', script: STRESS_NG, read: reads(/\b(?<end>passed|failed|skipped): [1-9]\d*: (?<name>[\w-]+)/g) },
]
