import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Ajv } from 'ajv'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { knownCalls } from '../../../src/calls/arguments.ts'
import { TEST_FORMATS } from '../../../src/cli/formats.ts'
import { TEST_HELP } from '../../../src/cli/help-texts.ts'
import { type PolicyTest, PolicyTestFile, parseTests, readTests } from '../../../src/cli/policy-tests.ts'
import { caseOf, casesFile } from '../../../src/cli/record-cases.ts'
import { formatResults, runTest } from '../../../src/cli/test.ts'
import { parseConfig } from '../../../src/policy/config.ts'
import type { Policy } from '../../../src/policy/policy.ts'
import { parsePolicy } from '../../../src/policy/settings.ts'
import type { EventView } from '../../../src/reader/event-stream.ts'
import { decideFor } from '../../../src/syscalls/described-caller.ts'

/** The sample of the package, in which every line is a comment. */
const CONFIG = fileURLToPath(new URL('../../../deploy/config.yaml', import.meta.url))
const POLICY = `policy:
  mknod: true
  mknod.devices: [c:10:200]
  sysinfo: true
  setxattr: true
  setxattr.read: true
  sched_setscheduler: true
  mount: true
  mount.allowed: ext4,f2fs,tmpfs,hugetlbfs
  mount.fuse: { xfs: fusexfs }
  bpf: true
  bpf.devices: true
`
const read = (cases: string, head = POLICY): readonly PolicyTest[] => parseTests(`${head}tests:\n${cases}`, 'x.yaml')
const run = (cases: string, head = POLICY) => read(cases, head).map(runTest)

/** Cases of what each handler decides. */
const CASES = fileURLToPath(new URL('policy-cases.yaml', import.meta.url))
const cases = readTests(CASES, {})

test.each(cases.map((one) => ({ named: `line ${one.line}: ${one.name}`, one })))('$named', ({ one }) => {
  const { decision, missing, fails } = runTest(one)
  expect({ ...decision, missing, fails }).toMatchObject({ fails: [] })
})

test('every call has a case, and nothing is done for it without its key', () => {
  // What names a file by a link or a descriptor has the same handler.
  const kindOf = (name: string): string => name.replace(/^[lf](?=(set|get|list|remove)xattr$)/, '')
  const off = cases.filter(({ call, caller }) => decideFor(call, caller, {}).why.code === 'keyOff')
  expect(new Set(off.map(({ call }) => kindOf(call.name)))).toEqual(new Set(knownCalls.map(kindOf)))
  expect(cases.filter(({ call, caller }) => decideFor(call, caller, {}).outcome === 'done')).toEqual([])
})

const EXAMPLES = fileURLToPath(new URL('../../../examples/policies/', import.meta.url))
test.each(['audio', 'builder', 'ci-runner', 'nested', 'systemd'])(
  'examples/policies/%s.yaml: its tests pass, and without any one of its keys one fails',
  (name) => {
    const file = join(EXAMPLES, `${name}.yaml`)
    const entries = parseConfig(readFileSync(file, 'utf8'), file).profiles.get(name)!
    const tests = readTests(join(EXAMPLES, `${name}.test.yaml`), {})
    const failed = (policy: Policy): number =>
      tests.filter((one) => runTest({ ...one, policy }).fails.length > 0).length
    expect(failed(parsePolicy(entries))).toBe(0)
    for (const key of entries) {
      const others = entries.filter((each) => each !== key)
      expect(failed(parsePolicy(others)), `without ${key[0]}`).toBeGreaterThan(0)
    }
  },
)

test('every policy of examples/ is in the list of its README, and tested', () => {
  const names = readdirSync(EXAMPLES).filter((file) => file.endsWith('.test.yaml'))
  const listed = [...readFileSync(join(EXAMPLES, 'README.md'), 'utf8').matchAll(/^\| `(.*?)` \|/gm)].map(
    ([, name]) => name,
  )
  expect(listed.sort()).toEqual(names.map((file) => file.replace('.test.yaml', '')).sort())
  expect(readdirSync(EXAMPLES)).toHaveLength(2 * names.length + 1)
})

describe('what is not known is not taken for zero, in words', () => {
  test.each([
    { call: 'mount("/dev/vda", "/mnt", "ext4", 0, "data=ordered,er"...)', says: 'is cut' },
    { call: 'sched_setattr(0, {size=48, sched_policy=SCHED_FIFO, ...}, 0)', says: 'is cut' },
    { call: 'sched_setscheduler(0, SCHED_FIFO, [])', says: '4 bytes are read where the call has 0' },
  ])('$call', ({ call, says }) => {
    const [result] = run(`  - { call: '${call}', expect: done }`)
    expect(result).toMatchObject({ fails: ['nothing is decided'], missing: expect.stringContaining(says) })
  })
  test('a path that is cut leads where the description says', () => {
    expect(run(`  - { call: 'mknod("/a"..., S_IFCHR|0666, 1:3)', expect: done }`)[0]!.fails).toEqual([])
  })
})

test('a path that is not absolute begins at its descriptor', () => {
  const closed = 'descriptors: { 3: { is: closed } }'
  const cases = ['x', '/x'].map(
    (path) => `  - { call: 'mknodat(3, "${path}", S_IFCHR|0666, 1:3)', expect: done, caller: { ${closed} } }`,
  )
  const [relative, absolute] = run(cases.join('\n'))
  expect(relative!.decision).toMatchObject({ outcome: 'left', why: { code: 'pathNotResolved' } })
  expect(absolute!.fails).toEqual([])
  const [open] = run(`  - { call: 'mknodat(3, "x", S_IFCHR|0666, 1:3)', expect: done }`)
  expect(open!.decision!.assumed).toContain('descriptors: { 3: { is: other } }')
})

test('of a file with thousands of flaws a hundred are enough', () => {
  const many = Array.from({ length: 300 }, () => '  - { call: sysinfo(0), expct: done }').join('\n')
  expect(() => read(many)).toThrow(/ 401 errors: /)
})

test('what is printed of a call reads back, and an act has nothing that is only ours', () => {
  const [odd] = run(`  - { call: 'mknod("/tmp/a\\001\\377\\\\\\"b", S_IFCHR|0666, 1:3)', expect: left }`)
  const call = odd!.test.call.text
  expect(call).toContain('\\001\\377')
  for (const format of ['table', 'json'] as const)
    expect(formatResults(format, [odd!])).toContain(format === 'json' ? JSON.stringify(call) : call)
  const [moved] = run(
    `  - call: move_mount(4, "", AT_FDCWD, "/mnt", MOVE_MOUNT_F_EMPTY_PATH)\n    expect: done\n    caller: { descriptors: { 4: { mount: { type: ext4 } } } }`,
  )
  expect(Object.keys(moved!.decision!.act!)).not.toEqual(expect.arrayContaining(['serial']))
  expect(Object.values(moved!.decision!.act!).join()).not.toMatch(/[(){}]/)
})

describe('what an act has', () => {
  const act = (call: string, caller = '{}') =>
    run(`  - call: '${call}'\n    expect: done\n    caller: ${caller}`)[0]!.decision!.act
  test.each([
    { call: 'mknod("d/null", S_IFCHR|0666, 1:3)', has: { verb: 'mknod', name: 'd/null', dev: '1:3', mode: '020666' } },
    {
      call: 'mount("/dev/vda", "/mnt", "ext4", MS_RDONLY, "x")',
      has: {
        verb: 'mount',
        type: 'ext4',
        source: '/dev/vda',
        target: '/mnt',
        flags: '0x1',
        data: 'x',
        nodev: 'true',
        shift: 'false',
      },
    },
    { call: 'mount("none", "/mnt", "tmpfs", 0, "uid=5")', has: { data: 'uid=100005,gid=100000', nodev: 'false' } },
    { call: 'sched_setparam(0, [7])', has: { verb: 'schedule', by: 'sched_setparam', priority: '7' } },
    { call: 'mount("/dev/vda", "/mnt", "xfs", 0, NULL)', has: { verb: 'fuse', program: 'fusexfs' } },
  ])('$call', ({ call, has }) => expect(act(call)).toMatchObject(has))

  test('is compared by number or text, member by member', () => {
    const expecting = (members: string) =>
      run(`  - call: mknod("n", S_IFCHR|0666, 1:3)\n    expect: done\n    act: ${members}`)[0]!.fails
    expect(expecting('{ verb: mknod, mode: S_IFCHR|0666, dev: 1:3 }')).toEqual([])
    expect(expecting('{ verb: placeNode, mode: 0666, other: 1 }')).toEqual(['act.verb', 'act.mode', 'act.other'])
  })
})

test('a policy in observe mode leaves what it would do', () => {
  const [result] = run(
    '  - { call: \'mknod("n", S_IFCHR, 1:3)\', expect: left, reason: observedAct }',
    'policy: { mknod: true, mode: observe }\n',
  )
  expect(result!.fails).toEqual([])
})

test('what a container got under an earlier policy is refused, or the business of the kernel', () => {
  const moves = (what: string): string =>
    `  - call: move_mount(4, "", AT_FDCWD, "/mnt", MOVE_MOUNT_F_EMPTY_PATH)\n    caller: { descriptors: { 4: ${what} } }\n`
  const off = `${moves('{ mount: { type: ext4 } }')}    expect: error EPERM\n    reason: keyOff\n${moves('{ is: other }')}    expect: left\n    reason: keyOff\n`
  const listed = `  - call: mount("none", "/mnt", NULL, MS_REMOUNT, NULL)\n    caller: { path: { mountedBy: intercede } }\n    expect: left\n    reason: remountsFileSystem\n`
  const results = [
    ...run(off, 'policy: { mknod: true }\n'),
    ...run(listed, 'policy: { mount: true, mount.allowed: ext4 }\n'),
  ]
  expect(results.map(({ fails }) => fails)).toEqual([[], [], []])
})

test('what was made with more than the policy gives is refused, and no more is made', () => {
  const moved = (what: string, outcome: string): string =>
    `  - call: move_mount(4, "", AT_FDCWD, "/mnt", MOVE_MOUNT_F_EMPTY_PATH)\n    caller: { descriptors: { 4: { mount: ${what} } } }\n    expect: ${outcome}\n`
  const made = (type: string, members: string): string =>
    `  - call: fsmount(3, 0, 0)\n    caller: { descriptors: { 3: { context: { type: ${type}, state: created } } } }\n    expect: done\n    act: ${members}\n`
  const head = 'policy: { mount: true, mount.allowed: "ext4,hugetlbfs", mount.shift: true, mount.nodev: false }\n'
  const results = run(
    [
      moved('{ type: ext4, shift: true, nodev: false }', 'done'),
      moved('{ type: hugetlbfs, shift: true }', 'error EPERM'),
      made('ext4', '{ nodev: false, shift: true }'),
      made('hugetlbfs', '{ nodev: false, shift: false }'),
    ].join(''),
    head,
  )
  expect(results.map(({ fails }) => fails)).toEqual([[], [], [], []])
})

test('a call that a filter for the policy does not trap is marked', () => {
  const of = (call: string, policy?: string) =>
    run(`  - { call: '${call}', expect: left }`, policy)[0]!.decision!.isUntrapped
  expect(of('mknod("n", S_IFIFO, 0)')).toBe(true)
  expect(of('mknod("n", S_IFBLK, 0)')).toBeUndefined()
  // The reason names the key to lower, which has the call trapped.
  expect(of('setpriority(PRIO_PROCESS, 0, -10)', 'policy: { sched_setscheduler: true }\n')).toBeUndefined()
})

test('the caller of a case is laid over that of the file', () => {
  const head = `${POLICY}caller: { capabilities: [MKNOD], userNamespace: nested }\n`
  const [one, two] = run(
    '  - { call: \'mknod("n", S_IFCHR, 1:3)\', expect: left, reason: childUserns }\n  - { call: \'mknod("n", S_IFCHR, 1:3)\', caller: { userNamespace: container }, expect: done }',
    head,
  )
  expect([one!.fails, two!.fails]).toEqual([[], []])
})

test('the file that the help shows passes', () => {
  const [, shown] = /^A file:\n([\s\S]*?)\n\n\S/m.exec(TEST_HELP)!
  const results = parseTests(shown!.replaceAll(/^ {2}/gm, ''), 'x.yaml').map(runTest)
  expect(results.map(({ fails }) => fails)).toEqual([[], []])
})

test.each([
  { rules: '["b *:* m", "b 7:0 rw"]', expect: 'done', reason: 'doneAsGranted' },
  { rules: '["b *:* m", "b 7:0 r"]', expect: 'left', reason: 'deviceNotGranted' },
  { rules: '["b *:* m", "c 7:0 rw"]', expect: 'left', reason: 'deviceNotGranted' },
  { rules: '["b *:* rwm"]', expect: 'left', reason: 'everyDeviceGranted' },
  { rules: 'all', expect: 'left', reason: 'everyDeviceGranted' },
  { rules: 'none', expect: 'left', reason: 'deviceCgroup' },
])('mknod.devices=granted with device rules $rules: $reason', ({ rules, ...expected }) => {
  const head = `policy: { mknod: true, mknod.devices: granted }\n`
  const outcome = `expect: ${expected.expect}, reason: ${expected.reason}`
  const call = `call: 'mknod("disk", S_IFBLK|0660, 7:0)'`
  const [one] = run(`  - { ${call}, caller: { deviceRules: ${rules} }, ${outcome} }`, head)
  expect(one!.fails).toEqual([])
})

test('what is granted without described rules names the rule that is assumed', () => {
  const call = `call: 'mknod("disk", S_IFBLK|0660, 7:0)'`
  const [one] = run(`  - { ${call}, expect: done }`, 'policy: { mknod: true, mknod.devices: granted }\n')
  expect(one!.fails).toEqual([])
  expect(one!.decision!.assumed).toContain('deviceRules: ["b 7:0 rwm"]')
  expect(one!.decision!.assumed).not.toContain('deviceRules: all')
})

describe('what is not described is not guessed', () => {
  test.each([
    ['fsconfig(3, FSCONFIG_CMD_CREATE, NULL, NULL, 0)', 'descriptors: { 3: '],
    ['sched_setparam(0, 0x7ffe1234)', 'the memory at 0x7ffe1234'],
    ['bpf(BPF_LINK_DETACH, {link_fd=9}, 4)', 'descriptor 9'],
  ])('in words: %s', (call, words) => {
    const [result] = run(`  - { call: '${call}', expect: done }`)
    expect(result).toMatchObject({ fails: ['nothing is decided'], missing: expect.stringContaining(words) })
  })
})

const FAILING = `  - name: 'a <device> # of "us"'
    call: mknod("tun", S_IFCHR|0666, 10:201)
    caller: { capabilities: [MKNOD] }
    expect: done
    reason: done
  - { call: 'mknod("null", S_IFCHR|0666, 1:3)', expect: done }
`
describe('results', () => {
  const shown = (format: (typeof TEST_FORMATS)[number]): string => formatResults(format, run(FAILING))

  test.each(TEST_FORMATS)('a wrong expectation fails in words with all that explains it: %s', (format) => {
    const text = shown(format)
    for (const words of [
      '10:201',
      'MKNOD',
      'deviceNotAllowed',
      'the device 10:201 is not allowed',
      'mknod.devices',
      'x.yaml',
      'done',
      'left',
    ])
      expect(text).toContain(words)
  })

  test('TAP has a plan and a line for each case', () => {
    const [version, plan, first, ...rest] = shown('tap').trimEnd().split('\n')
    expect([version, plan]).toEqual(['TAP version 14', '1..2'])
    expect(first).toBe('not ok 1 - x.yaml: a <device> \\# of "us"')
    expect(rest[0]).toBe('  ---')
    const end = rest.indexOf('  ...')
    expect(parse(rest.slice(1, end).join('\n'))).toMatchObject({
      at: 'x.yaml:14',
      expected: 'done [done]',
      actual: 'left [deviceNotAllowed]',
    })
    expect(rest.slice(end + 1)).toEqual(['ok 2 - x.yaml: mknod("null", S_IFCHR|0666, 1:3)'])
  })

  test('JUnit has a suite for each file, with its texts escaped', () => {
    const text = shown('junit')
    expect(text).toContain('<testsuite name="x.yaml" tests="2" failures="1">')
    expect(text).toContain('name="a &#60;device&#62; # of &#34;us&#34;"')
    expect(text.match(/<testcase /g)).toHaveLength(2)
    expect(text.match(/<failure message="expected done \[done\], got left \[deviceNotAllowed\]">/g)).toHaveLength(1)
  })

  test('JSON has an object for each case', () => {
    expect(JSON.parse(shown('json'))).toMatchObject([
      {
        file: 'x.yaml',
        line: 14,
        ok: false,
        expected: { outcome: 'done' },
        actual: { outcome: 'left', reason: 'deviceNotAllowed' },
      },
      { ok: true, name: 'mknod("null", S_IFCHR|0666, 1:3)' },
    ])
  })
})

describe('a file that is wrong is refused in words', () => {
  test.each([
    ['tests: []\npolices: {}', 'unknown key "polices" at line 2, column 1 (did you mean "policy"?)'],
    [
      'tests:\n  - { call: sysinfo(0), expct: done }',
      'tests.0 lacks "expect" at line 2, column 5',
      'unknown key "tests.0.expct" at line 2, column 25 (did you mean "expect"?)',
    ],
    [
      'tests:\n  - { call: sysinfo(0), expect: done, caller: { userNs: nested } }',
      'unknown key "tests.0.caller.userNs"',
    ],
    [
      'tests:\n  - { call: sysinfo(0), expect: done, caller: { userNamespace: outer } }',
      'tests.0.caller.userNamespace is "outer"',
      'allowed is container, nested, host',
    ],
    [
      'tests:\n  - { call: sysinfo(0), expect: done, caller: { capabilities: [MKNODE] } }',
      'tests.0.caller.capabilities',
    ],
    [
      'tests:\n  - { call: sysinfo(0), expect: done, caller: { task: { policy: SCHED_OTHER, priority: 3 } } }',
      'a priority from 1 with SCHED_FIFO',
    ],
    [
      'tests:\n  - { call: sysinfo(0), expect: done, caller: { path: { errno: ENOENT, owner: mapped } } }',
      'errno alone',
    ],
    [
      'tests:\n  - { call: sysinfo(0), expect: done, caller: { descriptors: { 3: { program: 1, link: 2 } } } }',
      'one of context, mount',
    ],
    ['tests:\n  - { call: sysinfo(0), expect: left, reason: childUsernss }', 'did you mean "childUserns"?'],
    ['tests:\n  - { call: sysinfo(0), expect: error EWRONG }', 'allowed is done, left, or error'],
    ['tests:\n  - { call: sysinfo(, expect: done }', 'line 2'],
    [
      'tests:\n  - { call: sysinfos(0), expect: done }',
      'cannot read the call at line 2, column',
      'did you mean "sysinfo"?',
    ],
    ['policy: { mknod.device: true }\ntests: []', 'did you mean "security.syscalls.intercept.mknod.devices"?'],
    ['caller:\ntests: []', 'caller is empty at line 1, column 1, allowed is a map of facts about the caller'],
    [
      'caller: { path: nodev }\ntests: []',
      'caller.path is "nodev" at line 1, column 11, allowed is a map of facts about a path',
    ],
    [
      'caller: { deviceRules: ["c 1:3"] }\ntests: []',
      'allowed is all, none, or a list of rules such as "c 10:200 rwm"',
    ],
    ['profile: none\nconfig: /nowhere\ntests: []', 'Cannot read "/nowhere"'],
    [
      'tests:\n  - { call: sysinfo(0), expect: done, caller: { paths: { a: { ownr: mapped } } } }',
      'unknown key "tests.0.caller.paths.a.ownr" at line 2, column 63 (did you mean "owner"?)',
    ],
    [
      'caller: { descriptors: { 3: { context: { type: ext4, stat: open } } } }\ntests: []',
      'unknown key "caller.descriptors.3.context.stat"',
      '(did you mean "state"?)',
    ],
    [
      'caller: { descriptors: { 3: { context: { } } } }\ntests: []',
      'caller.descriptors.3.context lacks "type" at line 1',
    ],
    [
      'policy: { mknod: true, security.syscalls.intercept.mknod: false }\ntests: []',
      'is given twice',
      'line 1, column 24',
    ],
    ['tests: []', 'tests is a list at line 1, column 1, allowed is a list of at least one case'],
    [`profile: defualt\nconfig: ${CONFIG}\ntests: []`, 'unknown profile "defualt" at line 1, column 1', 'has none'],
  ])('%s', (text, ...words) => {
    for (const each of words) expect(() => parseTests(text, 'x.yaml')).toThrow(each)
  })

  test('all errors in words at once, in their order', () => {
    const text = `policy: { mknode: true }
tests:
  - { call: "mknod(1", expect: maybe }
  - { call: "x()", expect: done, reason: childUsern }
  - { name: empty }
caller: { userNamespace: outer }
`
    const words = [
      ...[
        '8 errors: unknown key "security.syscalls.intercept.mknode"',
        'cannot read the call at line 3, column 7',
        'tests.0.expect is "maybe"',
      ],
      ...[
        'cannot read the call at line 4',
        '(did you mean "childUserns"?)',
        'tests.2 lacks "call"',
        'tests.2 lacks "expect"',
        'caller.userNamespace',
      ],
    ]
    expect(() => parseTests(text, 'x.yaml')).toThrow(
      new RegExp(words.map((each) => each.replaceAll(/[().?[\]]/g, '\\$&')).join('.*')),
    )
  })
})

const event = (call: string, verdict: string, reason: string, errno?: string): EventView => ({
  ...{ time: 0, type: 'call', container: 'c', call, verdict, reason, ...(errno ? { errno } : {}) },
})

describe('cases from records', () => {
  const policy = parsePolicy([
    ['mknod', 'true'],
    ['sched_setscheduler', 'true'],
  ])
  test.each([
    [event('mknod("n", S_IFCHR|0666, 1:3)', 'done', 'done'), { expect: 'done', reason: 'done' }],
    [event('mknod("n", S_IFCHR|0666, 1:3)', 'error', 'kernelAnswered', 'EEXIST'), { expect: 'done' }],
    [
      event('mknod("n", S_IFCHR|0666, 1:3)', 'left', 'childUserns'),
      { expect: 'left', reason: 'childUserns', caller: { userNamespace: 'nested' } },
    ],
    [event('sysinfo(0x7ffe0000)', 'left', 'keyOff'), { expect: 'left', reason: 'keyOff' }],
  ])('%o', (recorded, is) => {
    const { call } = recorded
    expect(caseOf(recorded, policy)).toEqual({ call, ...is })
  })

  test.each([
    [event('sched_setparam(0, 0x7ffe1234)', 'done', 'done'), 'the memory at 0x7ffe1234'],
    [event('mknod("n", S_IFCHR|0666, 1:3)', 'left', 'walkerStuck'), 'by what no record has'],
    [event('mknod(...)', 'done', 'done'), 'at character 7'],
    [event('syscall_9(0x1)', 'left', 'notServed'), 'does not serve'],
  ])('in words: %o is left out', (recorded, why) => expect(caseOf(recorded, policy)).toContain(why))

  test('make a file that passes, with each kind of call once', () => {
    const given = { mknod: 'true', mode: 'enforce' }
    const events = [
      event('mknod("n", S_IFCHR|0666, 1:3)', 'done', 'done'),
      event('mknod("n", S_IFCHR|0666, 1:3)', 'done', 'done'),
      event('mknod("\\303\\244 \'\\"#\\\\", S_IFCHR|0666, 10:200)', 'left', 'deviceNotAllowed'),
      event('mknod("n", S_IFCHR|0666, 1:3)', 'left', 'lacksCapability'),
      event('mknod("n", S_IFCHR|0666, 1:3)', 'gone', 'gone'),
      event('sched_setparam(0, 0x7ffe1234)', 'left', 'priorityTooHigh'),
    ]
    const text = casesFile('build', given, events)!
    const results = parseTests(text, 'x.yaml').map(runTest)
    expect(results).toHaveLength(3)
    expect(results.filter(({ fails }) => fails.length > 0)).toEqual([])
    expect(text).toContain('#   sched_setparam(0, 0x7ffe1234)\n')
  })

  test('no calls make no file', () => expect(casesFile('build', {}, [])).toBeUndefined())
})

describe('the schema for editors', () => {
  const schema = JSON.parse(readFileSync(new URL('../../../deploy/policy-test.schema.json', import.meta.url), 'utf8'))
  const isValid = new Ajv({ allowUnionTypes: true }).compile(schema)
  test('has every section of a file', () => {
    expect(Object.keys(schema.properties)).toEqual(Object.keys(PolicyTestFile.pipe[2].entries))
  })

  test('takes every case', () => {
    const given = parse(readFileSync(CASES, 'utf8'))
    expect(isValid(given), JSON.stringify(isValid.errors)).toBe(true)
  })
  test.each([
    '{}',
    'tests: [{ expect: done }]',
    'tests: [{ call: x, expect: done, caller: { userns: nested } }]',
    'tests: [{ call: x, expect: left, reason: none }]',
    'policy: { mknodd: true }\ntests: []',
  ])('refuses %s', (text) => expect(isValid(parse(text))).toBe(false))
})

test('200 cases take less than a second of a processor', () => {
  const before = process.cpuUsage()
  const results = readTests(CASES, {}).map(runTest)
  expect(results.length).toBeGreaterThan(190)
  const { user, system } = process.cpuUsage(before)
  expect((user + system) / 1e6).toBeLessThan(1)
})
