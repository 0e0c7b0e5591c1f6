import { version } from '../processes/version.ts'
import { type ApiRoute, apiRoutes } from './routes.ts'
import { named, schemas } from './schemas.ts'

const STATUSES: Readonly<Record<string, string>> = {
  400: 'a parameter is wrong',
  403: 'the Host is not localhost, or a web page asks; or at a port, for anything but metrics',
  404: 'there is no such thing',
  405: 'only GET and HEAD are answered',
  409: 'several containers begin so',
  413: 'a request has no body',
  429: 'the connection has a stream of events already',
  503: 'the daemon is not there, or too much waits for other clients',
}

const errors = Object.fromEntries(
  Object.entries(STATUSES).map(([status, description]) => [
    status,
    { description, content: { 'application/json': { schema: named('Error') } } },
  ]),
)

const inPath = (path: string): readonly string[] => [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!)

const operation = ({ path, is, query, type, schema }: ApiRoute): object => ({
  get: {
    summary: is,
    parameters: [
      ...inPath(path).map((name) => ({ name, in: 'path', required: true, schema: { type: 'string' } })),
      ...query.map(({ name, is: description, schema: of }) => ({ name, in: 'query', description, schema: of })),
    ],
    responses: { 200: { description: is, content: { [type.split(';')[0]!]: { schema } } }, ...errors },
  },
})

/** The document that describes every answer, OpenAPI 3.1. */
export const openapi = (): object => ({
  openapi: '3.1.0',
  info: { title: 'Intercede', version: version().split(' ')[0] },
  paths: {
    ...Object.fromEntries(apiRoutes.map((route) => [route.path, operation(route)])),
    '/openapi.json': {
      get: {
        summary: 'This document',
        responses: { 200: { description: 'It', content: { 'application/json': { schema: { type: 'object' } } } } },
      },
    },
  },
  components: { schemas },
})
