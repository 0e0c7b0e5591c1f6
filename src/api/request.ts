import type { IncomingMessage } from 'node:http'
import { briefly } from '../shared/briefly.ts'
import { HttpError } from './http-error.ts'
import { type ApiRoute, apiRoutes, type QueryValues } from './routes.ts'

const HOST = /^localhost(:\d{1,5})?$/i

/**
 * Refuses what no program of this machine sends that means it: a page in a browser, by whatever name it calls us; and
 * what is no question.
 *
 * @throws {HttpError}
 */
export function requireQuestion({ headers, method, socket, url }: IncomingMessage): void {
  if (!HOST.test(headers.host ?? ''))
    throw new HttpError(403, 'Cannot answer: the Host is not localhost; ask for http://localhost/')
  if (headers.origin !== undefined)
    throw new HttpError(403, 'Cannot answer: a web page asks (Origin); ask by a program')
  const length = headers['content-length']
  if (headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0'))
    throw new HttpError(413, 'Cannot answer: the request has a body; leave it out')
  if (socket.localPort !== undefined && url !== '/metrics')
    throw new HttpError(403, 'Cannot answer: at a port there is only /metrics; use the socket view.sock')
  if (method !== 'GET' && method !== 'HEAD')
    throw new HttpError(405, 'Cannot answer: the method is neither GET nor HEAD; use GET')
}

const patterns = apiRoutes.map((route) => ({
  route,
  pattern: new RegExp(`^${route.path.replaceAll('.', '\\.').replaceAll(/\{(\w+)\}/g, '(?<$1>[^/]+)')}$`),
}))

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    throw new HttpError(400, 'Cannot read the address: a % in it stands for no byte; write it as %25')
  }
}

/** Finds what a request asks for, and the values of its parameters. @throws {HttpError} if it is not known */
export function asked(address: string): { readonly route: ApiRoute; readonly values: QueryValues } {
  const [path = '', query = ''] = address.split(/\?(.*)/s)
  for (const { route, pattern } of patterns) {
    const match = pattern.exec(path)
    if (!match) continue
    const parts = Object.entries(match.groups ?? {}).map(([name, part]) => [name, decoded(part)])
    return { route, values: { ...Object.fromEntries(parts), ...queried(route, query) } }
  }
  throw new HttpError(404, 'Cannot answer: there is no such path; /openapi.json has all of them')
}

function queried({ query }: ApiRoute, text: string): QueryValues {
  const values: Record<string, string> = {}
  for (const [name, value] of new URLSearchParams(text)) {
    const parameter = query.find((each) => each.name === name)
    if (!parameter) throw new HttpError(400, `Cannot use ${briefly(name)}: there is no such parameter; leave it out`)
    const { enum: words, pattern } = parameter.schema as {
      readonly enum?: readonly string[]
      readonly pattern?: string
    }
    const isGood = (words?.includes(value) ?? true) && (pattern === undefined || new RegExp(pattern).test(value))
    if (!isGood)
      throw new HttpError(
        400,
        `Cannot use ${name}=${briefly(value)}: it is none of its values; use ${words?.join(' or ') ?? 'a whole number'}`,
      )
    values[name] = value
  }
  return values
}
