import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { instructed } from '../../../src/runtimes/known/index.ts'
import { missing } from '../../support/fixtures.ts'
import { type Done, execute } from '../../support/host.ts'
import { CLI } from '../../support/machine.ts'
import { withReason } from '../../support/skipped.ts'
import { byUser } from '../../support/user.ts'

const scratch = mkdtempSync(join(tmpdir(), 'intercede-wrong-'))
afterAll(() => rmSync(scratch, { recursive: true }))

const at = (name: string): string => join(scratch, name)
function file(name: string, text: string): string {
  writeFileSync(at(name), text)
  return at(name)
}
mkdirSync(at('folder'))
mkdirSync(at('two words'))
const plain = file('plain', '')
const config = file('config.yaml', 'profiles: { build: { mknod: true }, nothing: {}, "a;b": { mknod: true } }\n')
const LXC_LINES = '2\ndenylist\nmount notify\n'
const NOTIFY = { names: ['mknod'], action: 'SCMP_ACT_NOTIFY' }
const SHADOWED = [
  { names: ['chmod'], action: 'SCMP_ACT_NOTIFY', args: [{ index: 1, value: 0, op: 'SCMP_CMP_EQ' }] },
  { names: ['chmod'], action: 'SCMP_ACT_ALLOW' },
]
const GUARDED = [
  { names: ['mknod'], action: 'SCMP_ACT_ERRNO', errnoRet: 5, excludes: { caps: ['CAP_SYS_ADMIN'] } },
  { names: ['mknod'], action: 'SCMP_ACT_LOG' },
]
/** A tree whose /dev is something odd, below a closed directory. */
function treeWith(name: string, make: (dev: string) => void): string {
  mkdirSync(at('closed'), { recursive: true, mode: 0o700 })
  mkdirSync(at(`closed/${name}`))
  make(at(`closed/${name}/dev`))
  return at(`closed/${name}`)
}
const profile = (name: string, members: object): string =>
  file(
    name,
    JSON.stringify({
      defaultAction: 'SCMP_ACT_ALLOW',
      listenerPath: '/run/intercede/oci.sock',
      syscalls: [NOTIFY],
      ...members,
    }),
  )
profile('flags.json', { flags: ['SECCOMP_FILTER_FLAG_SPEC_ALLOW'] })
const lacksDefault = file('no-default.json', '{}')

const KEY = 'security.syscalls.intercept'
const USAGE = 2
const FAILED = 125
const NO = 1

/** What is wrong, as words on the command line; the status; what the sentence must say. */
type Row = readonly [args: string | readonly string[], status: number, says: RegExp]

const rows: readonly Row[] = [
  // What a daemon shows.
  ['api', USAGE, /systemd has passed no socket; start intercede-api\.socket/],
  ['api --socket view.sock', USAGE, /must be an absolute path/i],
  [`api --socket ${at('nowhere')}/view.sock`, FAILED, /is not a directory; make it first/],
  [`metrics --feed ${at('nowhere')}`, FAILED, /there is no such socket; start the service or "intercede serve"/],
  ['metrics --nosuch', USAGE, /unknown option '--nosuch'/],
  // The command.
  ['rnu', USAGE, /unknown command 'rnu' \(did you mean run\?\)/],
  ['frobnicate', USAGE, /unknown command 'frobnicate'/],
  ['--nosuch', USAGE, /unknown option '--nosuch'/],
  ['help nosuch', USAGE, /"nosuch": there is no such command/],
  ['help constructor', USAGE, /"constructor": there is no such command/],
  ['constructor', USAGE, /unknown command 'constructor'/],
  ['help run extra', USAGE, /Cannot use "extra": "help" takes no further words; leave it out/],
  ['-V x', USAGE, /Cannot use "x": "-V" takes no further words/],
  ['--version x', USAGE, /Cannot use "x": "--version" takes no further words/],
  [['x\ny\u001b[31m'], USAGE, /unknown command 'x\\ny\\u001b\[31m'/],
  // run.
  ['run', USAGE, /missing required argument 'command'/],
  ['run --nosuch true', USAGE, /unknown option '--nosuch'/],
  ['run --memry 1g true', USAGE, /did you mean --memory\?/],
  ['run -c', USAGE, /argument missing/],
  ['run -c moutn true', USAGE, /did you mean.*mount/],
  ['run -c mknod=maybe true', USAGE, /mknod is "maybe".*true, 1, yes/],
  ['run -c mknod.devices true', USAGE, /has no value/],
  ['run -c mknod.devices=b:8:0 true', USAGE, /is a block device/],
  ['run -c mknod.devices=c:1:1 true', USAGE, /would give the container/],
  ['run -c mknod.devices=c:99999:1 true', USAGE, /out of range/],
  ['run -c sched_setscheduler.max_priority=100 true', USAGE, /max_priority is "100"/],
  ['run -c mount.allowed=nfs true', USAGE, /nfs/],
  [
    ['run', '-c', 'mount', '-c', 'mount.allowed=ext4', '-c', 'mount.fuse=ext4=fuse2fs', 'true'],
    USAGE,
    /"ext4" is in both/,
  ],
  ['run -c mount -c mount.allowed=ext4,proc true', USAGE, /"proc" is mounted by the kernel in any user namespace/],
  ['run -c mount -c mount.fuse=ext4=../../x true', USAGE, /"\.\.\/\.\.\/x" is neither a name, .* nor an absolute path/],
  ['run -c mknod -c mknod=false true', USAGE, /mknod is given twice, as "true" and "false"; give it once/],
  [`run -c mknod -c ${KEY}.mknod=no true`, USAGE, /mknod is given twice/],
  ['run --memory 1k true', USAGE, /at least 1m/],
  ['run --memory 0 true', USAGE, /at least 1m/],
  ['run --runtime runc --memory 8m true', FAILED, /runc starts no container with less; use --memory 16m/],
  ['run --memory 99999999t true', USAGE, /at most 8191t/],
  ['run --memory -5 true', USAGE, /--memory|unknown option/],
  ['run --memory lots true', USAGE, /a size such as 512m/],
  ['run --net bridge true', USAGE, /allowed choices are none, host/],
  ['run --runtime docker true', USAGE, /allowed choices are crun, runc/],
  ['run --name ../x true', USAGE, /a host name/],
  [['run', '--name', 'a b', 'true'], USAGE, /a host name/],
  [['run', '--name', '', 'true'], USAGE, /a host name/],
  ['run --env =x true', USAGE, /KEY=VALUE/],
  [['run', '--env', '', 'true'], USAGE, /KEY=VALUE/],
  [['run', '--env', 'A B=c', 'true'], USAGE, /KEY=VALUE with a KEY without spaces/],
  ['run --workdir tmp true', USAGE, /an absolute path in the container/],
  [['run', '--workdir', '', 'true'], USAGE, /an absolute path in the container/],
  ['run --user root true', USAGE, /UID\[:GID\]/],
  ['run --user 70000 true', USAGE, /up to 65535/],
  ['run --user 0:0:0 true', USAGE, /UID\[:GID\]/],
  ['run --rootfs / --expose-host true', USAGE, /--expose-host with --rootfs/],
  ['run --rootfs /no/such true', FAILED, /no such directory/],
  [['run', '--rootfs', '', 'true'], USAGE, /it must be a path, and it is empty/],
  [
    ['run', '--rootfs', treeWith('link', (dev) => symlinkSync('/nowhere', dev)), 'true'],
    FAILED,
    /its \/dev is a symbolic link, .*; rm \/.*\/link\/dev\n$/,
  ],
  [
    ['run', '--rootfs', treeWith('fifo', (dev) => execFileSync('mkfifo', [dev])), 'true'],
    FAILED,
    /its \/dev is no directory, .*; rm \/.*\/fifo\/dev\n$/,
  ],
  ['run --stop-timeout 1m true', USAGE, /seconds/],
  ['run --bind /dev/null true', FAILED, /use --device/],
  ['run --bind /no/such true', FAILED, /make it first/],
  ['run --bind /dev true', FAILED, /hide the container's init/],
  ['run --bind /etc/passwd:/usr true', FAILED, /name another path/],
  ['run --bind /usr:/etc/passwd true', FAILED, /name another path/],
  ['run --bind /usr:/etc/passwd/x true', FAILED, /name another path/],
  ['run --bind /usr:idmap true', FAILED, /mode 0700: install -d -m 700 \/closed && mv \/usr \/closed\/, or add :ro/],
  ['run --bind /proc:/mnt:ro:idmap true', FAILED, /leave out idmap/],
  [['run', '--bind', '', 'true'], USAGE, /Cannot use --bind "": it means nothing; the form is PATH/],
  ['run --bind /etc:rel true', USAGE, /"rel" is neither an absolute path/],
  ['run --bind /etc:/etc:rx true', USAGE, /the form is PATH/],
  ['run --bind /etc:ro:ro true', USAGE, /the form is PATH/],
  ['run --bind /etc:idmap,ro,idmap true', USAGE, /the form is PATH/],
  [
    'run --bind /proc true',
    USAGE,
    /the container mounts its own "\/proc" over it; name another path, such as --bind "\/proc:\/mnt"/,
  ],
  ['run --bind /tmp:/proc/x true', USAGE, /the container mounts its own "\/proc" over it/],
  ['run --bind /tmp:/dev/pts true', USAGE, /the container mounts its own "\/dev\/pts" over it/],
  [['run', '--bind', '/no\nsuch\u001b[31m', 'true'], FAILED, /"\/no\\nsuch\\u001b\[31m"/],
  [['run', '--rootfs', plain, 'true'], FAILED, /not a directory/],
  ['run --device /no/such true', FAILED, /no such device/],
  ['run --device /etc/passwd true', FAILED, /it is not a device/],
  ['run --device /dev/zero:/etc/zero true', FAILED, /below \/dev/],
  ['run --device /dev/zero:/dev/zero:r true', FAILED, /always read and write; leave out ":r"/],
  // profile.
  ['profile', USAGE, /no key is on; try -c mknod/],
  ['profile extra', USAGE, /too many arguments for 'profile': expected 0/],
  ['profile -c x', USAGE, /unknown key/],
  ['profile -c mknod=false', USAGE, /no key is on/],
  ['profile -c bpf', USAGE, /bpf does nothing without bpf\.devices/],
  ['profile -c profile=build', USAGE, /use --profile NAME/],
  ['profile -c mknod --format json', USAGE, /allowed choices are oci, lxc/],
  ['profile -c mknod --runtime kvm', USAGE, /allowed choices are/],
  ['profile -c mknod --format lxc --runtime runc', USAGE, /--runtime here: the format lxc is for LXC alone/],
  ['profile -c mknod --format lxc --user', USAGE, /--user here/],
  ['profile -c mknod --format lxc --cap-add MKNOD', USAGE, /--cap-add here/],
  ['profile -c mknod --runtime podman --cap-add MKNOD', USAGE, /--cap-add here/],
  ['profile -c mknod --cap-add MKNOD', USAGE, /name one with --base/],
  ['profile -c mknod --cap-add NOPE', USAGE, /a capability of Linux/],
  ['profile -c mount -c mount.fuse=ext4=fuse2fs --format lxc', USAGE, /mount\.fuse is not served there/],
  ['profile -c mknod --user', USAGE, /mknod cannot be served for a user/],
  ['profile -c mknod --listener rel/x', USAGE, /an absolute path of at most 107 bytes/],
  ['profile -c mknod --listener /run/a/', USAGE, /an absolute path of at most 107 bytes/],
  [['profile', '-c', 'mknod', '--listener', '/run/a b'], USAGE, /without spaces/],
  [`profile -c mknod --listener /${'x'.repeat(107)}`, USAGE, /at most 107 bytes/],
  [['profile', '-c', 'mknod', '--output', ''], USAGE, /it must be a path, and it is empty/],
  ['profile -c mknod --trap mknod --trap mknod=no', USAGE, /mknod is given twice/],
  [
    'profile -c mknod --runtime runc --base flags.json',
    FAILED,
    /not every runc takes a profile with flags.*; take them out/,
  ],
  ['profile -c mknod --output new/x.json', FAILED, /new" is not a directory; make it first/],
  ['profile -c mknod --output folder', FAILED, /EISDIR/],
  ['profile -c mknod --output plain/x', FAILED, /plain" is not a directory/],
  [
    ['profile', '-c', 'mknod', '--runtime', 'podman', '--base', profile('guards.json', { syscalls: GUARDED })],
    FAILED,
    /base profile ".*guards\.json": its rules for mknod contradict each other \(SCMP_ACT_ERRNO 5 and SCMP_ACT_LOG\); mend them, or name another one$/m,
  ],
  ['profile -c mknod --base /no/such', FAILED, /Cannot use the base profile "\/no\/such": ENOENT/],
  ['profile -c mknod --base folder', FAILED, /no regular file/],
  ['profile -c mknod --base plain', FAILED, /Cannot use the base profile "plain"/],
  ['profile -c mknod --base no-default.json', FAILED, /defaultAction is missing/],
  [
    ['profile', '--format', 'lxc', '-c', 'mknod', '--base', file('notify.seccomp', LXC_LINES)],
    FAILED,
    /notify rules of its own/,
  ],
  [
    ['profile', '--format', 'lxc', '-c', 'mknod', '--base', file('v1.seccomp', '1\nallowlist\n0\n')],
    FAILED,
    /"[^"]*v1\.seccomp": it is no policy of version 2/,
  ],
  [
    [
      'profile',
      '-c',
      'mknod',
      '--base',
      profile('shadow.json', { defaultAction: 'SCMP_ACT_ERRNO', syscalls: SHADOWED }),
    ],
    FAILED,
    /shadow\.json.*SCMP_ACT_NOTIFY for chmod never holds/,
  ],
  ['profile -c mknod --base /dev/zero', FAILED, /base profile "\/dev\/zero": it is no regular file; name one/],
  ['profile --format lxc -c mknod --base /dev/zero', FAILED, /"\/dev\/zero": it is no regular file; name one/],
  ['profile --check plain -c mknod', USAGE, /-config with --check|--config with --check/],
  ['profile --check plain --output x.json', USAGE, /--output with --check/],
  ['profile --check plain --format lxc', USAGE, /--format with --check/],
  ['profile --check /no/such', NO, /ENOENT/],
  ['profile --check plain', NO, /name a profile in JSON/],
  [['profile', '--check', lacksDefault], NO, /defaultAction is missing/],
  [
    'profile --profile build --daemon-config /no/such',
    FAILED,
    /Cannot read configuration "\/no\/such": it is not there/,
  ],
  [['profile', '--profile', 'biuld', '--daemon-config', config], USAGE, /no such profile \(did you mean "build"\?\)/],
  [['profile', '--profile', 'other', '--daemon-config', config], USAGE, /it has build, nothing, a;b/],
  [['profile', '--profile', 'nothing', '--daemon-config', config], USAGE, /no key is on in the profile "nothing"/],
  [
    [
      'flags',
      'podman',
      '--profile',
      'b',
      '--daemon-config',
      file('c.yaml', 'profiles: { b: { mknod: true } }\nceiling: { mknod: false }\n'),
    ],
    USAGE,
    /a profile: \S+mknod: profile b asks for "true", and its ceiling is "false", so "false" holds; lower the one, or/,
  ],
  [['profile', '--profile', 'a;b', '--daemon-config', config], USAGE, /a semicolon/],
  [['profile', '--profile', '', '--daemon-config', config], USAGE, /the name is empty/],
  [['profile', '--profile', 'build\nmknod', '--daemon-config', config], USAGE, /a line break/],
  [['profile', '-c', 'mknod', '--daemon-config', config], USAGE, /the file in which --profile looks/],
  [['profile', '--profile', 'build', '--trap', 'mknod=false', '--daemon-config', config], USAGE, /it only adds/],
  [['profile', '--profile', 'build', '--trap', 'x', '--daemon-config', config], USAGE, /unknown key/],
  // flags.
  ['flags', USAGE, /missing required argument 'runtime'/],
  ['flags podmn -c mknod', USAGE, /allowed choices are podman/],
  ['flags crun -c mknod', USAGE, /allowed choices are podman.*use "intercede profile --runtime crun"/],
  ['flags podman', USAGE, /no key is on/],
  ['flags podman -c mknod extra', USAGE, /too many arguments/],
  ['flags podman -c mknod --name ../../x --write folder', USAGE, /a plain name/],
  [['flags', 'podman', '-c', 'mknod', '--name', 'a b', '--write', 'folder'], USAGE, /a plain name/],
  [['flags', 'podman', '-c', 'mknod', '--name', '', '--write', 'folder'], USAGE, /a plain name/],
  ['flags podman -c mknod --write new/folder', FAILED, /new\/folder" is not a directory; make it first/],
  [['flags', 'podman', '-c', 'mknod', '--write', ''], USAGE, /it must be a path, and it is empty/],
  ['flags podman -c mknod -a mknod=yes -a mknod=no --write folder', USAGE, /mknod is given twice/],
  [['flags', 'podman', '-c', 'mknod', '--write', 'two words'], USAGE, /would split or expand/],
  [['flags', 'podman', '-c', 'mknod', '-a', 'profile=a b', '--write', 'folder'], USAGE, /would split or expand/],
  ['flags podman -c mknod --first-id 5 --write folder', USAGE, /a number from 65536/],
  ['flags podman -c mknod --first-id 400000 --write folder', USAGE, /--first-id is for lxc, containerd/],
  ['flags lxc -c mknod --first-id x --write folder', USAGE, /a number from 65536/],
  ['flags lxc -c mknod --first-id 4294967295 --write folder', USAGE, /a number from 65536/],
  ['flags podman -c mknod --base plain --no-base --write folder', USAGE, /--base with --no-base/],
  ['flags podman -c mknod --no-base --base plain --write folder', USAGE, /--base with --no-base/],
  ['flags podman -c mknod --base plain --write folder', FAILED, /Cannot use the base profile "plain"/],
  ['flags lxc -c mount -c mount.fuse=ext4=fuse2fs --write folder', USAGE, /mount\.fuse is not served there/],
  ['flags lxc -c mknod -a mknod=false --write folder', USAGE, /has no annotations/],
  ['flags docker -c sysinfo --user --write folder', USAGE, /it is for podman/],
  ['flags podman -c mknod -a mknod=maybe --write folder', USAGE, /mknod is "maybe"/],
  ['flags podman -c mknod -a nosuch=1 --write folder', USAGE, /unknown key/],
  ['flags podman -c mknod --listener rel --write folder', USAGE, /an absolute path/],
  // The values of options may be names of runtimes, too.
  [`flags containerd --profile lxc --daemon-config ${config}`, USAGE, /"lxc": .* has no such profile/],
  ['flags --base kubernetes podman -c nonsense', USAGE, /unknown key/],
  ['flags kubernetes -c nonsense --base containerd', USAGE, /unknown key/],
  // Orders.
  ['set', USAGE, /missing required argument 'container'/],
  ['set c', USAGE, /none is named; give KEY=VALUE, or --unset KEY/],
  ['set c moutn', USAGE, /unknown key "security\.syscalls\.intercept\.moutn" \(did you mean/],
  ['set c mknod=maybe', USAGE, /mknod is "maybe": not a boolean, allowed is true/],
  ['set c mknod.devices', USAGE, /mknod\.devices has no value: allowed is a list/],
  ['set c mknod.devices=c:1:1', USAGE, /"c:1:1" would give the container/],
  ['set c mknod=true mknod=false', USAGE, /given twice, as "true" and "false"; give it once/],
  ['set c profile=build', USAGE, /a profile is no key; set the keys that it has, or edit it and reload/],
  ['set c mknod --unset mknod', USAGE, /set and unset security\.syscalls\.intercept\.mknod at once/],
  ['set c --unset moutn', USAGE, /unknown key/],
  ['set c mknod --format wide', USAGE, /'wide' is invalid: allowed choices are table, json/],
  ['set c mknod --feed /no/such/feed.sock', FAILED, /Cannot read "\/no\/such\/feed\.sock": there is no such socket/],
  ['reload now', USAGE, /too many arguments/],
  [
    'reload --control /no/such/control.sock',
    FAILED,
    /there is no such socket; start the service, or "intercede serve" as root/,
  ],
  [['reload', '--control', plain], FAILED, /no daemon answers there/],
  // serve.
  ['serve --control-socket rel', USAGE, /an absolute path/],
  [
    ['serve', '--socket', at('s'), '--control-socket', at('s')],
    USAGE,
    /twice.*give --control-socket a path of its own/,
  ],
  [['serve', '--socket', at('s'), '--feed-socket', at('f'), '--control-socket', at('f')], USAGE, /twice/],
  ['serve --user --control-socket /tmp/x', USAGE, /--control-socket with --user: .*; send SIGHUP to reload/],
  ['serve --check-config --control-socket /tmp/x', USAGE, /--control-socket with --check-config/],
  [
    ['serve', '--check-config', '--config', file('high.yaml', 'ceiling: { mknodd: true }\n')],
    NO,
    /unknown key "security\.syscalls\.intercept\.mknodd" at line 1, column 12 \(did you mean/,
  ],
  ['serve extra', USAGE, /too many arguments/],
  ['serve --config', USAGE, /argument missing/],
  ['serve --socket rel/x', USAGE, /an absolute path of at most 107 bytes/],
  ['serve --socket folder/x --lxc-socket rel', USAGE, /an absolute path/],
  [['serve', '--socket', at('s'), '--lxc-socket', at('s')], USAGE, /twice/],
  ['serve --config /no/such', FAILED, /is not there; write it/],
  ['serve --config /dev/zero', FAILED, /configuration "\/dev\/zero": it is no regular file; name one/],
  [
    ['serve', '--config', file('unknown.yaml', `default:\n  ${KEY}.moutn: true\n`)],
    FAILED,
    /moutn.*line 2|line 2.*moutn/,
  ],
  [['serve', '--config', at('folder')], FAILED, /no regular file/],
  [['serve', '--socket', plain], FAILED, /it exists and is not a socket/],
  [['serve', '--socket', join(plain, 'x')], FAILED, /Cannot listen on/],
  ['serve --socket /no/such/x', FAILED, /"\/no\/such" is not a directory; make it first/],
  [
    ['serve', '--socket', at('s'), '--lxc-socket', '/no/such/x'],
    FAILED,
    /"\/no\/such" is not a directory; make it first/,
  ],
  ['serve --check-config --socket /tmp/x', USAGE, /--socket with --check-config: it serves nothing; leave it out/],
  ['serve --check-config --lxc-socket /tmp/x', USAGE, /--lxc-socket with --check-config/],
  [['serve', '--config', file('list.yaml', 'default: { mknod: [true] }\n')], FAILED, /mknod is a list at line 1/],
  [
    ['serve', '--config', file('twice.yaml', `default: { mknod: true, ${KEY}.mknod: no }\n`)],
    FAILED,
    /given twice.*line 1/,
  ],
  [['serve', '--config', file('empty.yaml', 'profiles: { build: }\n')], FAILED, /profiles\.build is empty at line 1/],
  [['serve', '--check-config', '--config', file('whole.yaml', '- a\n')], NO, /the file is a list, allowed is a map/],
  [
    ['serve', '--check-config', '--config', file('limit.yaml', 'limits: { foo: 1 }\n')],
    NO,
    /"limits\.foo" at line 1, column 11, allowed is calls/,
  ],
  [
    ['serve', '--check-config', '--config', file('syntax.yaml', 'a: [\n')],
    NO,
    /at line \d, column \d; correct the YAML there/,
  ],
  [['serve', '--config', file('bool.yaml', `default:\n  ${KEY}.mknod: maybe\n`)], FAILED, /maybe.*line 2/],
  [['serve', '--check-config', '--config', file('key.yaml', 'defautl: {}\n')], NO, /defautl.*line 1.*did you mean/],
  ['serve --check-config --config /no/such', NO, /"\/no\/such": it is not there; write it/],
  // doctor.
  ['doctor extra', USAGE, /too many arguments/],
  ['doctor --jsn', USAGE, /did you mean --json\?/],
]

/** Ways of saying what to do, or what is allowed. */
const REMEDY = /; |did you mean|allowed (is|choices|are)|: it must be|: expected|line \d/

const left = (): readonly string[] =>
  [scratch, '/etc/intercede']
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder, { recursive: folder === scratch, encoding: 'utf8' }))
    .sort()

const intercede = (...args: readonly string[]): Promise<Done> =>
  execute(process.execPath, [CLI, ...args], { cwd: scratch })
/** With a /run/intercede of its own, since containers of other tests may run: prints what is left below its directories. */
const OWN_RUN = `mkdir -p /run/intercede && mount -t tmpfs none /run/intercede && "$@"
status=$?; find /run/intercede -mindepth 2; exit $status`
const alone = (words: readonly string[]): Promise<Done> =>
  execute('unshare', ['--mount', 'sh', '-c', OWN_RUN, 'sh', process.execPath, CLI, ...words], { cwd: scratch })
const wordsOf = (args: Row[0]): readonly string[] => (typeof args === 'string' ? args.split(' ') : args)
/** Runtimes for which `flags` prints lines of a file, to which nothing must be added. */
const OF_LINES = instructed.filter(({ instructions }) => instructions.prints === 'lines').map(({ name }) => name)
/** The rows name the runtime right after the command, except for one that names its base before. */
const printed = ([command, ...words]: readonly string[]): string => {
  const runtime = words[0] === '--base' ? words[2] : words[0]
  return command === 'flags' && !OF_LINES.includes(runtime ?? '') ? '--intercede-flags-failed\n' : ''
}

describe('a wrong input gets one sentence with what, why and remedy, and leaves nothing', () => {
  const all = rows.map(([args, status, says]) => ({ words: wordsOf(args), status, says }))

  test('of each command, a hundred in all', () => expect(rows.length).toBeGreaterThanOrEqual(100))

  test.each(all)('$status: $words', async ({ words, status, says }) => {
    const before = left()
    const done = await alone(words)
    expect({ status: done.status, stdout: done.stdout }).toEqual({ status, stdout: printed(words) })
    expect(done.stderr).toMatch(/^intercede: Cannot [^\n]+[^.\n]\n$/)
    expect(done.stderr).toMatch(says)
    expect(done.stderr).toMatch(REMEDY)
    expect(left()).toEqual(before)
  })
})

test.each(['crun', 'runc'])('run says what to do where %s says only what failed', async (runtime) => {
  const done = await intercede('run', '--runtime', runtime, '--workdir', '/nowhere/at/all', 'true')
  expect(done).toMatchObject({ status: FAILED, stdout: '' })
  expect(done.stderr).toMatch(
    /^intercede: Cannot start the command: .* says: .*\/nowhere.*; name a --workdir that the container has$/m,
  )
})

test.each([
  ['rubbish', 'maybe not', 'unknown key'],
  ['a bad value', 'mknod=maybe', 'mknod is "maybe"'],
  ['a device that no container may have', 'mknod=true\nmknod.devices=c:1:1', 'would give the container'],
  [
    'two profiles',
    'profile=a\nprofile=b',
    'two profiles are named, "a" and "b" at line 2 of the container\'s metadata; name one',
  ],
  ['two values of a key', `mknod=true\n${KEY}.mknod=no`, 'mknod is given twice'],
  ['a NUL', 'mknod=true\n#\0', 'it has a NUL'],
])('profile --check finds %s in the metadata', async (what, listenerMetadata, says) => {
  const done = await intercede('profile', '--check', profile(`${what}.json`, { listenerMetadata }))
  expect(done).toMatchObject({
    status: NO,
    stdout: expect.stringContaining('wrong: its listenerMetadata is no policy'),
  })
  expect(done.stdout).toContain(says)
  expect(done.stderr).toMatch(/^intercede: Cannot use the profile .*1 of its rules or settings is wrong/)
})

test.each(['mknod=true', 'profile=build'])('profile --check takes the metadata %s', async (listenerMetadata) => {
  expect(await intercede('profile', '--check', profile('good.json', { listenerMetadata }))).toMatchObject({ status: 0 })
})

test('profile --check looks whether the configuration has the profile', async () => {
  const file = profile('named.json', { listenerMetadata: 'profile=biuld' })
  expect(await intercede('profile', '--check', file, '--daemon-config', config)).toMatchObject({
    status: NO,
    stdout: expect.stringContaining('unknown profile "biuld" at line 1 of the container\'s metadata (did you'),
  })
  expect(await intercede('profile', '--check', file, '--daemon-config', '/no/such')).toMatchObject({
    status: NO,
    stderr: expect.stringContaining('Cannot read configuration "/no/such"'),
  })
})

test.each([
  {
    what: 'flags',
    runtime: 'runc',
    members: { flags: ['SECCOMP_FILTER_FLAG_LOG'] },
    says: /^wrong: not every runc takes/m,
  },
  {
    what: 'archMap',
    runtime: 'crun',
    members: { archMap: [{ architecture: 'SCMP_ARCH_X86_64', subArchitectures: [] }] },
    says: /^wrong: crun does not know archMap/m,
  },
  {
    what: 'rules with guards',
    runtime: 'runc',
    members: { syscalls: [{ ...NOTIFY, includes: { caps: ['CAP_MKNOD'] } }] },
    says: /^wrong: runc does not know includes and excludes.*a rule for mknod always holds$/m,
  },
])('profile --check finds $what, which $runtime does not take', async ({ what, runtime, members, says }) => {
  const file = profile(`${what}.json`, members)
  const done = await intercede('profile', '--check', file, '--runtime', runtime)
  expect(done).toMatchObject({ status: NO, stdout: expect.stringMatching(says) })
  const engine = runtime === 'runc' && what === 'flags' ? 'crun' : 'podman'
  expect(await intercede('profile', '--check', file, '--runtime', engine)).toMatchObject({ status: 0 })
  const takesIt =
    what === 'flags' ? '' : 'intercede: checked for podman, since crun cannot read it; --runtime names another\n'
  expect(await intercede('profile', '--check', file)).toMatchObject({ status: 0, stderr: takesIt })
})

test.each([
  {
    what: 'serve on a file system that is read-only',
    script: 'mkdir -p /run/intercede && mount -t tmpfs -o ro none /run/intercede && exec "$@" serve',
    says: /^intercede: Cannot listen on "[^"]*": bind: EROFS; let root write to its directory, or name another path$/,
  },
  {
    what: 'run on a file system that is read-only',
    script: 'mkdir -p /run/intercede && mount -t tmpfs -o ro none /run/intercede && exec "$@" run true',
    says: /^intercede: Cannot run the command: EROFS[^\n]*; make that file system writable$/,
  },
  {
    what: 'run without procfs',
    script: 'mount -t tmpfs none /proc && exec "$@" run true',
    says: /^intercede: Cannot start: no procfs is mounted on \/proc; mount it first/,
  },
  {
    what: 'serve without procfs',
    script: 'mount -t tmpfs none /proc && exec "$@" serve',
    says: /^intercede: Cannot start: no procfs is mounted on \/proc; mount it first/,
  },
  {
    what: 'run with few descriptors',
    script: 'ulimit -n 20; exec "$@" run true',
    says: /^intercede: Cannot run the command: \w+: EMFILE; allow more open files with "ulimit -n 1024"$/,
  },
  {
    what: 'run without files',
    script: 'ulimit -f 0; exec "$@" run true',
    says: /^intercede: Cannot run the command: EFBIG[^\n]*; allow larger files with "ulimit -f unlimited"$/,
  },
  {
    what: 'serve without files',
    script: 'ulimit -f 0; exec "$@" serve --socket "$FOLDER/x.sock"',
    says: /^intercede: Cannot serve: ftruncate: EFBIG; allow larger files with "ulimit -f unlimited"$/,
  },
])('$what says one sentence', async ({ script, says }) => {
  const words = ['--mount', 'sh', '-c', script, 'sh', process.execPath, CLI]
  const { status, stderr } = await execute('unshare', words, { env: { ...process.env, FOLDER: at('folder') } })
  rmSync(at('folder/x.sock'), { force: true })
  rmSync(at('folder/lxc.sock'), { force: true })
  expect(status).toBe(FAILED)
  expect(stderr.trimEnd()).toMatch(says)
  expect(stderr.trimEnd()).not.toContain('\n')
})

test.each([[], ['/usr']])('flags --write of a user says one sentence: %s', async (...directory) => {
  const { status, stderr } = await execute('unshare', byUser('flags', 'podman', '-c', 'mknod', '--write', ...directory))
  expect(status).toBe(FAILED)
  expect(stderr).toMatch(
    /^intercede: Cannot write the profile: EACCES[^\n]*; run it as root, or name a directory with --write DIR\n$/,
  )
})

describe('a profile is replaced whole', () => {
  /** Runs `script` with a file system of 64 KiB in `folder`, where p.json is a good old profile of root. */
  const within = (script: string): Promise<Done> => {
    const made = '"$@" profile -c sysinfo --output p.json && chown 0:6 p.json && chmod 640 p.json'
    const full = `mount -t tmpfs -o size=64k none folder && cd folder && ${made} && cp -p p.json ../old && ${script}`
    return execute('unshare', ['--mount', 'sh', '-c', full, 'sh', process.execPath, CLI], { cwd: scratch })
  }
  const fill = '{ head -c 100000 /dev/zero >fill; } 2>/dev/null'
  const write = '"$@" profile -c mknod -c mount -c mount.allowed=ext4 -c setxattr --base ../big.json --output'
  writeFileSync(
    at('big.json'),
    JSON.stringify({
      defaultAction: 'SCMP_ACT_ERRNO',
      syscalls: Array.from({ length: 400 }, (_, index) => ({ names: [`call${index}`], action: 'SCMP_ACT_ALLOW' })),
    }),
  )

  test.each(['p.json', 'link'])('on a full disk the old one stays, and nothing else, by %s', async (name) => {
    const { stderr, stdout } = await within(
      `ln -s p.json link; ${fill}; ${write} ${name}; echo $?; rm fill; cmp p.json ../old && ls -A`,
    )
    expect(stdout).toBe(`${FAILED}\nlink\np.json\n`)
    expect(stderr).toMatch(/ENOSPC[^\n]*; make room/)
  })

  test('a new one is not there on a full disk', async () => {
    const { stdout } = await within(`${fill}; ${write} new.json 2>/dev/null; echo $?; rm fill; ls -A`)
    expect(stdout).toBe(`${FAILED}\np.json\n`)
  })

  test('it keeps mode, owner and the link that leads to it', async () => {
    const { stdout } = await within(
      'ln -s p.json link; ln p.json hard; "$@" profile -c mknod --output link && ' +
        'stat -c "%F %u %g %a" link p.json && grep -c mknod p.json; cmp hard ../old && ls -A',
    )
    expect(stdout).toMatch(/^symbolic link 0 0 777\nregular file 0 6 640\n[1-9]\d*\nhard\nlink\np\.json\n$/)
  })

  const lacks = missing('strace')
  test.skipIf(lacks)(withReason('a signal in the middle leaves a whole one, and nothing else', lacks), async () => {
    const slow = 'strace -f -o /dev/null -e trace=fsync -e inject=fsync:delay_enter=1000000'
    const { stdout } = await within(
      `{ ${slow} "$@" profile -c mknod --output p.json & } && while [ $(ls -A | wc -l) = 1 ]; do sleep 0.05; done && ` +
        'read -r child </proc/$!/task/$!/children && kill -TERM $child; wait; ls -A; grep -c mknod p.json',
    )
    expect(stdout).toMatch(/^p\.json\n[1-9]\d*\n$/)
  })

  test('what is no file, and what only the kernel may follow, is written to', async () => {
    const { stdout } = await within(
      'ln -s new link; "$@" profile -c mknod --output link && ls -A && "$@" profile -c mknod --output /dev/stdout | cmp - new',
    )
    expect(stdout).toBe('link\nnew\np.json\n')
  })
})

test.each(['profile -c mknod', 'flags podman -c mknod', 'doctor', '--help', 'profile --help', '--version'])(
  '"%s" says that its output has no room',
  async (words) => {
    const done = await execute('sh', ['-c', `exec "$0" "$@" >/dev/full`, process.execPath, CLI, ...words.split(' ')])
    expect(done.status).toBe(FAILED)
    expect(
      done.stderr.match(/^intercede: Cannot write the output: ENOSPC[^\n]*; send it to a place that has room$/gm),
    ).toHaveLength(1)
    expect(done.stderr).not.toContain('    at ')
  },
)

test('an error that cannot be written to standard error changes no status', async () => {
  const done = await execute('sh', ['-c', `"$0" "$@" 2>/dev/full`, process.execPath, CLI, 'profile'])
  expect(done).toEqual({ status: USAGE, stdout: '', stderr: '' })
})

test('a reader that goes away ends it without a word', async () => {
  const done = await execute('sh', ['-c', `"$0" "$@" | head -c 1`, process.execPath, CLI, 'profile', '--help'])
  expect(done).toMatchObject({ status: 0, stderr: '' })
})

test('intercede alone shows what there is, with the statuses', async () => {
  const done = await intercede()
  expect(done).toMatchObject({ status: USAGE, stdout: '', stderr: expect.stringContaining('Exit status:') })
  expect(await intercede('--help')).toMatchObject({ status: 0, stderr: '', stdout: done.stderr })
  expect(await intercede('help', 'help')).toMatchObject({ status: 0, stderr: '', stdout: done.stderr })
  expect(await intercede('help', 'doctor')).toMatchObject({ status: 0, stdout: expect.stringContaining('--json') })
})

const OPTION = 'intercede-flags-failed'
for (const [program, status] of [
  ['docker', 125],
  ['ctr', 1],
] as const) {
  const absent = missing(program)
  test.skipIf(absent)(withReason(`${program} refuses what flags prints when it fails`, absent), async () => {
    const done = await execute(program, ['run', `--${OPTION}`, 'image', 'name'])
    expect({ status: done.status, said: done.stderr.includes(OPTION) }).toEqual({ status, said: true })
  })
}

test('flags that fails on a terminal says only why: nothing there takes its output for options', async () => {
  const command = `"${process.execPath}" "${CLI}" flags podman`
  const { stdout } = await execute('script', ['-qec', command, '/dev/null'])
  expect(stdout).toContain('no key is on')
  expect(stdout).not.toContain('--intercede-flags-failed')
})

test('--version says which build it is', async () => {
  expect((await intercede('--version')).stdout).toMatch(/^\d+\.\d+\.\d+ \(build [0-9a-f]{16}\)\n$/)
})
