// What builders of images make, here natively and in containers, as listings that can be compared: for tests of builders.

import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { must } from './images.ts'
import { MIRROR, SUITE } from './mirror.ts'

const ACL = '0x0200000001000600ffffffff020006000500000004000400ffffffff10000600ffffffff20000400ffffffff'
const CAPABILITY = '0x0100000200040000000000000000000000000000'
/** A tree with all that an archive can hold. */
const TREE = `umask 022 && mkdir -m 2755 sgid && mkdir -m 1777 sticky && mkdir opaque deep deep/er && echo hello >file && chown 5:7 file
  chmod 4755 file && ln file hard && ln -s file link && ln -s nowhere deep/broken && mkfifo -m 640 fifo && chown -h 1000:1000 link
  mknod -m 666 null c 1 3 && mknod -m 600 zero c 1 5 && chown 1000:7 zero && mknod -m 620 deep/er/tty c 5 0 && ln null deep/null
  mknod -m 600 console c 5 1 && mknod whiteout c 0 0 && mknod -m 660 disk b 8 0
  echo capable >capable && echo acl >acl && echo attribute >attribute && truncate -s 1m sparse && echo end >>sparse && : >deep/empty
  setfattr -n user.attribute -v value attribute && setfattr -n security.capability -v ${CAPABILITY} capable
  setfattr -n system.posix_acl_access -v ${ACL} acl && setfattr -n trusted.overlay.opaque -v y opaque
  touch -h -d '1999-12-31 23:59:59.123456789 UTC' file link null zero fifo deep/er/tty && touch -d '1970-01-01 UTC' deep sticky attribute
  touch -d '2020-02-02 UTC' . sgid opaque deep/er console whiteout disk capable acl sparse deep/empty`

/** Runs a script as root of the host on a tmpfs that nobody else sees. */
export const onTmpfs = (script: string): string =>
  must('unshare', ['--mount', 'sh', '-c', `set -e; mount -t tmpfs none /mnt; cd /mnt; ${script}`])

/** Packs the tree of all kinds of files as archives of tar and cpio. */
function packTree(directory: string): void {
  onTmpfs(`mkdir tree; cd tree; ${TREE}
    tar --numeric-owner --xattrs --xattrs-include='*' --acls --format=posix -cf ${directory}/tree.tar .
    find . | cpio --quiet -o -H newc >${directory}/tree.cpio`)
}

const digest = (name: string, bytes: Buffer): string => createHash(name).update(bytes).digest('hex')

/** A repository of Debian with packages that bring owners, modes and a device; debootstrap insists on one called apt. */
function makeRepository(directory: string): void {
  const packages = ['apt', 'base', 'more'].map((name) => makePackage(directory, name))
  const index = Buffer.from(packages.map((each) => `${each}\n`).join(''))
  const dist = join(directory, 'dists', SUITE)
  const files = [
    { path: 'main/binary-amd64/Packages', bytes: index },
    { path: 'main/binary-amd64/Packages.gz', bytes: gzipSync(index) },
  ]
  mkdirSync(join(dist, 'main/binary-amd64'), { recursive: true })
  for (const { path, bytes } of files) writeFileSync(join(dist, path), bytes)
  const sums = files.map(({ path, bytes }) => ` ${digest('sha256', bytes)} ${bytes.length} ${path}\n`).join('')
  writeFileSync(
    join(dist, 'Release'),
    `Suite: ${SUITE}\nCodename: ${SUITE}\nArchitectures: amd64\nComponents: main\nDate: Sat, 01 Jan 2022 00:00:00 UTC\nSHA256:\n${sums}`,
  )
}

/** @returns its paragraph of the index */
function makePackage(directory: string, name: string): string {
  const deb = `${name}_1_amd64.deb`
  const control = `Package: ${name}\nVersion: 1\nArchitecture: amd64\nMaintainer: a test <a@example.org>\nPriority: required\nEssential: yes\nDescription: nothing\n`
  onTmpfs(`umask 022; mkdir -p p/DEBIAN p/usr/bin p/var/lib/${name} p/tmp p/dev; printf '${control.replaceAll('\n', '\\n')}' >p/DEBIAN/control
    echo ${name} >p/usr/bin/${name} && chown 0:5 p/usr/bin/${name} && chmod 2755 p/usr/bin/${name} && chown 7:7 p/var/lib/${name} && chmod 1777 p/tmp
    ln p/usr/bin/${name} p/usr/bin/${name}-too && mknod -m 666 p/var/lib/${name}/full c 1 7 && find p -exec touch -h -d '2021-01-01 UTC' {} +
    dpkg-deb -Zgzip -b p ${join(directory, deb)}`)
  const file = join(directory, deb)
  return `${control}Filename: ${deb}\nSize: ${statSync(file).size}\nSHA256: ${digest('sha256', readFileSync(file))}\n`
}

/** Makes in a directory what the builders of `BUILDERS` unpack. */
export function makeInput(directory: string): void {
  mkdirSync(join(directory, 'repository'), { recursive: true })
  packTree(directory)
  makeRepository(join(directory, 'repository'))
  writeFileSync(join(directory, 'list'), LISTING)
}

/**
 * Prints what is in directory $1: each file with type, number, mode, owner, links, size and time, which is "new" from $2 on;
 * then contents, then attributes. Sizes of directories, and their links, are the file system's own.
 */
const LISTING = `cd "$1" && export LC_ALL=C TZ=UTC
find . -print0 | sort -z | xargs -0 stat -c '%n|%F|%t:%T|%a|%u:%g|%h|%s|%.9Y' | awk -F'|' -v since="$2" -v OFS='|' '
  $2 == "directory" { $6 = $7 = "-" } $8 >= since { $8 = "new" } { print }'
find . -type l -printf '%p -> %l\\n' | sort
find . -type f -print0 | sort -z | xargs -0 -r sha256sum
find . -print0 | sort -z | xargs -0 getfattr -h -d -m '^(user|security|system|trusted)' -e hex 2>/dev/null | awk '/^# file: / { file = $3; next } NF { print file, $0 }'
`

/** Stands after the last listing. */
const END = 'end'

export interface Builder {
  readonly name: string
  /** Fills the working directory, from $IN. */
  readonly script: string
}

/** Builders on what \`makeInput\` has made: they need no network. */
export const BUILDERS: readonly Builder[] = [
  { name: 'tar', script: "tar -xpf $IN/tree.tar --same-owner --numeric-owner --xattrs --xattrs-include='*' --acls" },
  { name: 'cpio', script: 'cpio -idmu --quiet <$IN/tree.cpio' },
  {
    name: 'mmdebstrap',
    script: `mmdebstrap --mode=root --variant=extract --include=base,more ${SUITE} . "deb [trusted=yes] copy:$IN/repository ${SUITE} main"`,
  },
  {
    name: 'debootstrap',
    script: `debootstrap --no-check-gpg --foreign --variant=minbase --arch=amd64 --include=more ${SUITE} $PWD file:$IN/repository`,
  },
]

/** Builders of whole systems, by the mirror: minutes each. mkosi asks for a repository that not every mirror has. */
export const SYSTEM_BUILDERS: readonly Builder[] = [
  { name: 'debootstrap-system', script: `debootstrap --variant=minbase ${SUITE} $PWD ${MIRROR}` },
  { name: 'mmdebstrap-system', script: `mmdebstrap --mode=root --variant=essential ${SUITE} . ${MIRROR}` },
  {
    name: 'mkosi-system',
    script: `mkosi --distribution=debian --release=${SUITE} --format=directory --package=base-files --bootable=no --local-mirror=${MIRROR} \
      --package-cache-dir=$(mktemp -d) --workspace-directory=$(mktemp -d) --output-directory=$PWD build`,
  },
]

/** Runs all builders below the working directory, and lists what each has made. */
export const building = (builders: readonly Builder[], input: string): string => `export IN=${input}
top=$PWD; umask 022
${builders
  .map(
    ({
      name,
      script,
    }) => `mkdir -m 755 ${name} && cd ${name} && s=0; (${script}) >$top/${name}.log 2>&1 || s=$?; cd $top
  echo "status of ${name}: $s"; [ $s = 0 ] || tail -n 3 ${name}.log >&2`,
  )
  .join('\n')}`

export const listing = (builders: readonly Builder[], input: string, since: number): string =>
  [...builders.map(({ name }) => `echo "== ${name}"; sh ${input}/list $PWD/${name} ${since}`), `echo "== ${END}"`].join(
    '\n',
  )

/** What a listing says of each builder, without lines in which two native builds differ. */
export function parse(text: string): ReadonlyMap<string, readonly string[]> {
  const parts = text.split(/^== /m).slice(1, -1)
  return new Map(
    parts.map((part) => {
      const [name = '', ...lines] = part.trimEnd().split('\n')
      return [name, lines.filter((line) => !UNSTABLE.test(line))]
    }),
  )
}
const UNSTABLE = /\.log\b|ld\.so\.cache|aux-cache|machine-id/
