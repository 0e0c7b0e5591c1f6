import type { ComponentChildren } from 'preact'
import { useRef, useState } from 'preact/hooks'
import { csvOf, save } from './formats.ts'

type Value = string | number | undefined

interface Column<Row> {
  readonly title: string
  /** What it is sorted and filtered by, and what a file has. */
  readonly of: (row: Row) => Value
  /** What the values are in, for a file. */
  readonly unit?: string
  /** What is shown instead. */
  readonly shown?: (row: Row) => ComponentChildren
}

interface TableProps<Row> {
  /** What the rows are, for those who do not see them. */
  readonly name: string
  readonly columns: readonly Column<Row>[]
  readonly rows: readonly Row[]
  readonly keyOf: (row: Row) => string | number
  /** The title of the column by which it is sorted at first, the greatest first. */
  readonly by?: string
  /** Said if there are no rows. */
  readonly none: string
}

/** How many rows are shown at first, and how many more each time that somebody wants more. */
const FEW = 200

const compared = (one: Value, other: Value): number =>
  typeof one === 'number' || typeof other === 'number'
    ? Number(one ?? -1) - Number(other ?? -1)
    : (one ?? '').localeCompare(other ?? '')

/** A table that is sorted by its headings, filtered while one types, and saved as a file. */
export function Table<Row>({ name, columns, rows, keyOf, by, none }: TableProps<Row>) {
  const [{ title, isDown }, sort] = useState({ title: by, isDown: true })
  const [words, filter] = useState('')
  const [most, show] = useState(FEW)
  const column = columns.find((each) => each.title === title)
  const wanted = words.toLowerCase().split(' ')
  const textOf = (row: Row): string =>
    columns
      .map(({ of }) => of(row) ?? '')
      .join('\n')
      .toLowerCase()
  const isWanted = (row: Row): boolean => words === '' || wanted.every((word) => textOf(row).includes(word))
  const found = rows.filter(isWanted)
  const sortedNow = column
    ? found.toSorted((one, other) => (isDown ? -1 : 1) * compared(column.of(one), column.of(other)))
    : found
  // Nothing moves away from under a pointer or the focus.
  const [isHeld, hold] = useState(false)
  const held = useRef({ by: '', places: new Map<string | number, number>() })
  const order = `${title} ${isDown}`
  if (!isHeld || held.current.by !== order)
    held.current = { by: order, places: new Map(sortedNow.map((row, place) => [keyOf(row), place])) }
  const { places } = held.current
  const placeOf = (row: Row): number => places.get(keyOf(row)) ?? rows.length
  const sorted = isHeld ? sortedNow.toSorted((one, other) => placeOf(one) - placeOf(other)) : sortedNow
  const shown = sorted.slice(0, most)
  const asFile = (): void =>
    save(
      `${name}.csv`,
      csvOf([
        columns.map(({ title, unit }) => (unit ? `${title} (${unit})` : title)),
        ...sorted.map((row) => columns.map(({ of }) => of(row))),
      ]),
    )
  if (rows.length === 0) return <p class="none">{none}</p>
  return (
    <>
      <div class="tools">
        <label>
          Filter <input type="search" value={words} onInput={({ currentTarget }) => filter(currentTarget.value)} />
        </label>
        <span role="status">
          {found.length === rows.length ? `${rows.length} in all` : `${found.length} of ${rows.length}`}
          {shown.length < found.length && `, the first ${shown.length} are shown`}
        </span>
        {shown.length < found.length && (
          <button type="button" onClick={() => show(most + FEW)}>
            Show more
          </button>
        )}
        <button type="button" onClick={asFile}>
          Save as CSV
        </button>
      </div>
      <section
        class="scrolls"
        aria-label={name}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by the keyboard
        tabIndex={0}
        onMouseEnter={() => hold(true)}
        onMouseLeave={() => hold(false)}
        onFocusIn={() => hold(true)}
        onFocusOut={() => hold(false)}
      >
        <table>
          <thead>
            <tr>
              {columns.map((each) => (
                <th
                  key={each.title}
                  scope="col"
                  aria-sort={each.title !== title ? 'none' : isDown ? 'descending' : 'ascending'}
                >
                  <button
                    type="button"
                    onClick={() => sort({ title: each.title, isDown: each.title !== title || !isDown })}
                  >
                    {each.title}
                    <span aria-hidden="true">{each.title !== title ? '' : isDown ? ' \u25be' : ' \u25b4'}</span>
                  </button>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {shown.map((row) => (
              <tr key={keyOf(row)}>
                {columns.map(({ title, of, shown }) => (
                  <td key={title} class={typeof of(row) === 'number' ? 'number' : ''}>
                    <div class="text">{shown ? shown(row) : of(row)}</div>
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </section>
    </>
  )
}

/** Names and what they are. */
export function Facts({ of }: { readonly of: readonly (readonly [name: string, is: ComponentChildren])[] }) {
  return (
    <dl>
      {of
        .filter(([, is]) => is !== undefined && is !== '')
        .map(([name, is], at) => (
          <div key={`${name} ${at}`}>
            <dt>{name}</dt>
            <dd class="text">{is}</dd>
          </div>
        ))}
    </dl>
  )
}
