// A reporter of vitest: at the end of a run it says what took longest, and how many tests were skipped for which reason.
import { relative } from 'node:path'
import { skipReasons } from './skip-reasons.js'

const SLOWEST = 10

/** The setup of a file takes time, too. */
function millisecondsOf(file) {
  const { setupDuration, collectDuration, duration } = file.diagnostic()
  return setupDuration + collectDuration + duration
}

const line = (milliseconds, what) => `${(milliseconds / 1000).toFixed(1).padStart(8)} s  ${what}`

const sum = (files) => files.reduce((milliseconds, file) => milliseconds + millisecondsOf(file), 0)

function suiteLines(files) {
  const suites = [...new Set(files.map(({ project }) => project.name))]
  return suites.map((name) => {
    const own = files.filter(({ project }) => project.name === name)
    return line(sum(own), `${name}, ${own.length} files`)
  })
}

function fileLines(files) {
  return files
    .map((file) => ({ name: relative('.', file.moduleId), took: millisecondsOf(file) }))
    .sort((a, b) => b.took - a.took)
    .slice(0, SLOWEST)
    .map(({ name, took }) => line(took, name))
}

/** With the reason that a test gave when it ran and found that it cannot. */
const nameOf = (test) =>
  [test.fullName, ...(test.meta().skipped ? [`[skipped: ${test.meta().skipped}]`] : [])].join(' ')

export default class TestTimes {
  /** The JSON report, which scripts/test-summary.js reads, has the data of a test, but no note. */
  onTestCaseResult(test) {
    const { note } = test.result()
    if (note !== undefined) test.meta().skipped = note
  }

  onTestRunEnd(files) {
    if (files.length < 2) return
    const skipped = files.flatMap((file) => [...file.children.allTests('skipped')].map(nameOf))
    const lines = ['Time by suite:', ...suiteLines(files), 'The slowest files:', ...fileLines(files)]
    console.log([...lines, ...skipReasons(skipped)].join('\n'))
  }
}
