import { useEffect, useRef, useState } from 'preact/hooks'
import uPlot from 'uplot'
import { clock, save } from './formats.ts'

export interface PlotProps {
  readonly name: string
  readonly labels: readonly string[]
  /** Times in seconds, then the values of each label. */
  readonly data: readonly (readonly (number | null)[])[]
  readonly format: (value: number) => string
  /** One bar a day, instead of lines. */
  readonly isByDay?: boolean
}

const HEIGHT = 180
/** Lines differ without their colours, too. */
const DASHES = [[], [8, 4], [2, 3]]
const DAY = 86_400
/** The least time that lines show, in seconds. */
const LEAST = 60
const dateOf = (seconds: number): string => new Date(1000 * seconds).toLocaleDateString()
const timeOf = (seconds: number): string => clock(1000 * seconds)
const dark = matchMedia('(prefers-color-scheme: dark)')

function optionsFor({ labels, format, isByDay }: PlotProps, width: number, style: CSSStyleDeclaration): uPlot.Options {
  const colour = (name: string): string => style.getPropertyValue(`--${name}`)
  const axis = { stroke: colour('dim'), grid: { stroke: colour('line'), width: 1 }, ticks: { show: false } }
  const bars =
    isByDay && uPlot.paths.bars ? { paths: uPlot.paths.bars({ size: [0.7, 60] }), points: { show: false } } : {}
  return {
    ...{ width, height: HEIGHT, legend: { show: false }, cursor: { show: false } },
    // The last label of the axis is half beyond it.
    padding: [null, 35, null, null],
    scales: {
      x: { range: (_, from, to) => (isByDay ? [from - DAY / 2, to + DAY / 2] : [Math.min(from, to - LEAST), to]) },
      y: { range: (_, _from, to) => [0, Math.max(to * 1.1, 1)] },
    },
    axes: [
      {
        ...{ ...axis, space: 110, values: (_, times) => times.map(isByDay ? dateOf : timeOf) },
        ...(isByDay ? { incrs: [DAY, 2 * DAY, 7 * DAY] } : {}),
      },
      { ...axis, size: 70, values: (_, values) => values.map(format) },
    ],
    series: [
      {},
      ...labels.map((label, index) => ({
        ...{ label, stroke: colour(`series${index}`), width: 2, dash: DASHES[index]!, spanGaps: false },
        ...{ points: { show: false }, ...bars, ...(isByDay ? { fill: colour(`series${index}`) } : {}) },
      })),
    ],
  }
}

/** Draws a plot with what the page has around it. */
function pictureOf(
  plot: HTMLCanvasElement,
  title: string,
  legend: readonly string[],
  style: CSSStyleDeclaration,
): HTMLCanvasElement {
  const picture = document.createElement('canvas')
  const line = 24 * devicePixelRatio
  picture.width = plot.width
  picture.height = plot.height + 2 * line
  const to = picture.getContext('2d')!
  to.fillStyle = style.getPropertyValue('--back')
  to.fillRect(0, 0, picture.width, picture.height)
  to.font = `${14 * devicePixelRatio}px ${style.fontFamily}`
  to.fillStyle = style.getPropertyValue('--text')
  to.fillText(title, line / 3, 0.75 * line, picture.width - line)
  let left = line / 3
  for (const [index, label] of legend.entries()) {
    to.fillStyle = style.getPropertyValue(`--series${index}`)
    to.fillText(label, left, 1.75 * line)
    left += to.measureText(label).width + line
  }
  to.drawImage(plot, 0, 2 * line)
  return picture
}

/** A plot that says its last values in words, and is saved as a picture. */
export function Plot(props: PlotProps) {
  const { name, labels, data, format, isByDay = false } = props
  const place = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot>(null)
  const [isDark, setDark] = useState(dark.matches)
  useEffect(() => {
    const { current } = place
    if (!current) return undefined
    const made = new uPlot(optionsFor(props, current.clientWidth, getComputedStyle(current)), data as never, current)
    plot.current = made
    const sized = new ResizeObserver(() => made.setSize({ width: current.clientWidth, height: HEIGHT }))
    sized.observe(current)
    const turn = (): void => setDark(dark.matches)
    dark.addEventListener('change', turn)
    return () => {
      dark.removeEventListener('change', turn)
      sized.disconnect()
      made.destroy()
    }
  }, [isDark, name])
  useEffect(() => plot.current?.setData(data as never), [data])
  const last = labels.map((label, index) => {
    const values = data[index + 1]!
    const value = isByDay ? values.reduce<number>((sum, each) => sum + (each ?? 0), 0) : values.at(-1)
    return [label, value === undefined || value === null ? '-' : format(value)] as const
  })
  const asFile = (): void => {
    const { current } = place
    if (!current || !plot.current) return
    const legend = last.map(([label, value]) => `${label} ${value}`)
    const picture = pictureOf(plot.current.ctx.canvas, `${document.title}: ${name}`, legend, getComputedStyle(current))
    picture.toBlob((blob) => blob && save(`${name}.png`, blob))
  }
  return (
    <figure>
      <figcaption>
        <strong>{name}</strong>
        {last.map(([label, value], index) => (
          <span key={label} class={`series series${index}`}>
            {label} {value}
          </span>
        ))}
        <button type="button" onClick={asFile}>
          Save as PNG
        </button>
      </figcaption>
      <div ref={place} role="img" aria-label={`${name}: ${last.map((each) => each.join(' ')).join(', ')}`} />
    </figure>
  )
}

/** How many looks a plot has. */
const LOOKS = 300

/** Collects values for a plot, one at each look. @param key of what they belong to: others begin anew */
export function useCollected(key: string, at: number, values: readonly (number | null)[]): (number | null)[][] {
  const kept = useRef({
    key,
    at: 0,
    data: values.map((): (number | null)[] => []) as (number | null)[][],
    times: [] as number[],
  })
  if (kept.current.key !== key) kept.current = { key, at: 0, data: values.map(() => []), times: [] }
  const { current } = kept
  if (at > current.at) {
    current.at = at
    current.times = [...current.times, at / 1000].slice(-LOOKS)
    current.data = current.data.map((each, index) => [...each, values[index] ?? null].slice(-LOOKS))
  }
  return [current.times, ...current.data]
}
