// Cuts pages and help texts into sentences: for tests of documents.

/** Code is no sentence: the tests of documents run what is marked so. Neither are headings, which promise nothing. */
const NO_SENTENCE = /^ *```.*\n[\s\S]*?^ *```$|<!--[\s\S]*?-->|^#+ .*$|(?<=\n\n)( {4}.*\n)+|^!\[.*$/gm

/** The head of a table, with the line below it. */
const TABLE_HEAD = /^\|.*\n\| ?-.*$/gm

/** Where a block of its own begins: an entry of a list, or a row of a table. */
const BLOCK = /\n\s*\n|\n(?=\s*(?:[-*] |\d+\. |\|))/

/** A full stop, with what may close behind it, before a blank; but not what leaves something out. */
const END = /(?<=[.!?][)"*_]*)(?<!\.\.\.[)"*_]*) +/

/** What is inside of code ends no sentence. */
function splitSentences(text: string): readonly string[] {
  const codes: string[] = []
  const masked = text.replaceAll(/`[^`]*`/g, (code) => `\0${codes.push(code) - 1}\0`)
  return masked.split(END).map((part) => part.replaceAll(/\0(\d+)\0/g, (_, index: string) => codes[Number(index)]!))
}

const plain = (text: string): string =>
  text
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replaceAll('**', '')
    .replace(/^\s*(?:[-*]|\d+\.) /, '')
    .replaceAll(/\s+/g, ' ')
    .trim()

const cells = (row: string): string => row.replace(/^\| */, '').replace(/ *\|$/, '')

const sentencesOfBlock = (block: string): readonly string[] => {
  const text = plain(block)
  return text.startsWith('|') ? [cells(text)] : splitSentences(text)
}

const isSaid = (sentence: string): boolean => /\w/.test(sentence)

/** The sentences of a page in Markdown, in their order: a row of a table is one, and a link is its words. */
export function sentencesOfPage(markdown: string): readonly string[] {
  const text = markdown.replaceAll(NO_SENTENCE, '\n').replaceAll(TABLE_HEAD, '\n')
  return [...new Set(text.split(BLOCK).flatMap(sentencesOfBlock).filter(isSaid))]
}

/** The sentences of a help text: an indented line is one, as each option with what is wrapped below it. */
export function sentencesOfHelp(help: string): readonly string[] {
  const unwrapped = help.replaceAll(/\n {14,}/g, ' ')
  const text = unwrapped.replaceAll(/^\S.*:$|^Usage: .*$/gm, '\n').replaceAll(/^ +(.*)$/gm, '\n$1\n')
  const blocks = text.split(/\n\s*\n/).map((block) => block.replaceAll(/\s+/g, ' ').trim())
  return [...new Set(blocks.flatMap(splitSentences).filter(isSaid))]
}
