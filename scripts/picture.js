// sudo node scripts/picture.js: makes docs/demo-light.svg and docs/demo-dark.svg, the picture in README.md, from what the commands
// of the demo print. A test runs the commands again and compares.
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const CLI = fileURLToPath(new URL('../bin/intercede.js', import.meta.url))
const COMMANDS = [
  'run -- mknod null c 1 3',
  `run -c mknod -- sh -c 'mknod null c 1 3 && echo gone >null && stat -c "%F %t:%T" null'`,
  'run -c mknod -- mknod mem c 1 1',
]
const THEMES = {
  light: { back: '#f6f8fa', frame: '#d0d7de', text: '#1f2328', prompt: '#1a7f37', dim: '#59636e' },
  dark: { back: '#0d1117', frame: '#30363d', text: '#e6edf3', prompt: '#3fb950', dim: '#9198a1' },
}
/** Of the picture: a terminal's columns, and the size of a character in pixels. */
const COLUMNS = 98
const CELL = { width: 7.8, height: 19 }
const MARGIN = 16

/** What a terminal shows: lines of commands begin with "$ ", what is wider than the terminal goes on in the next line. */
function session() {
  return COMMANDS.flatMap((command) => {
    const { stdout, stderr } = spawnSync('sh', ['-c', `exec 2>&1; "${process.execPath}" "${CLI}" ${command}`], {
      stdio: ['pipe', 'pipe', 'inherit'],
      encoding: 'utf8',
    })
    if (!stdout) throw new Error(`Cannot draw "intercede ${command}": it printed nothing (${stderr ?? ''})`)
    return [`$ intercede ${command}`, ...stdout.trimEnd().split('\n')].flatMap(wrapped)
  })
}

const wrapped = (line) => line.match(new RegExp(`.{1,${COLUMNS}}`, 'g')) ?? ['']
const escaped = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')

function picture(lines, { back, frame, text, prompt, dim }) {
  const width = Math.ceil(2 * MARGIN + COLUMNS * CELL.width)
  const height = 2 * MARGIN + lines.length * CELL.height
  const shown = (line) =>
    line.startsWith('$ ') ? `<tspan fill="${prompt}">$</tspan> ${escaped(line.slice(2))}` : escaped(line)
  const rows = lines.map(
    (line, row) =>
      `<text x="${MARGIN}" y="${MARGIN + (row + 0.75) * CELL.height}" fill="${line.startsWith('$ ') ? text : dim}">${shown(line)}</text>`,
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">
<rect width="${width}" height="${height}" rx="8" fill="${back}" stroke="${frame}"/>
<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="13" xml:space="preserve">
${rows.join('\n')}
</g>
</svg>
`
}

const lines = session()
for (const [name, theme] of Object.entries(THEMES))
  writeFileSync(new URL(`../docs/demo-${name}.svg`, import.meta.url), picture(lines, theme))
