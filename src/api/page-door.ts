import { randomBytes, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import { HttpError } from './bounds.ts'

const random = (): string => randomBytes(32).toString('base64url')

const isSame = (given: string | undefined, wanted: string): boolean =>
  given?.length === wanted.length && timingSafeEqual(Buffer.from(given, 'latin1'), Buffer.from(wanted, 'latin1'))

/** The names of this machine, with any port: a tunnel, as that of ssh or kubectl, may begin at another one. */
const HOST = /^(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?$/i

const COOKIE = 'intercede'

/**
 * No inline code or style, nothing of another host, no frame around it, and no text ever becomes markup. Reports go
 * below the path of the page: those who do not know that path get this policy, too.
 */
const POLICY = [
  ...["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", 'img-src data:'],
  ...["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"],
  ...["require-trusted-types-for 'script'", "trusted-types 'none'", 'report-uri report'],
].join('; ')

/**
 * Lets one browser in. Whoever has the address enters once with its token, and has a cookie from then on. The browser
 * would send a cookie to every port of this machine, so the cookie is for a path that nobody else knows.
 */
export class PageDoor {
  /** The path below which everything is. */
  readonly path = `/${random()}/`
  readonly #token = random()
  readonly #cookie = random()
  /**
   * Each answer has this. After our end another program may take the port: the page that is still open believes none
   * that cannot say it.
   */
  readonly #proof = random()
  #isUsed = false

  /** Where the browser enters; it sends no server what is behind the #. */
  get entrance(): string {
    return `${this.path}#token=${this.#token}`
  }

  /**
   * Returns what is asked for below the secret path.
   *
   * @throws {HttpError} if another page may have sent this, or it names the host by a name that leads to us
   */
  pathOf({ headers, url = '' }: IncomingMessage): string {
    const { host = '', origin } = headers
    if (!HOST.test(host)) throw new HttpError(403, 'Cannot answer: the Host is not localhost')
    if (!isSame(url.slice(0, this.path.length), this.path)) throw new HttpError(404, 'Cannot answer: no such path')
    const asked = url.slice(this.path.length)
    if ((origin !== undefined && origin !== `http://${host}`) || !isOwn(headers, asked))
      throw new HttpError(403, 'Cannot answer: the request comes from another web page')
    return asked
  }

  /** @throws {HttpError} if the browser has not entered */
  requireEntered({ headers }: IncomingMessage): void {
    if (!this.#hasCookie(headers)) throw new HttpError(401, 'Cannot answer: this browser has not entered')
  }

  /** Lets a browser in that has the token, or comes again. @throws {HttpError} if the token is wrong or was used */
  enter({ headers }: IncomingMessage, response: ServerResponse): void {
    const { 'x-intercede-token': token } = headers
    if (this.#hasCookie(headers)) return
    if (this.#isUsed || !isSame(String(token), this.#token))
      throw new HttpError(401, 'Cannot enter: the address is of an earlier start, or another browser has used it')
    this.#isUsed = true
    response.setHeader('set-cookie', `${COOKIE}=${this.#cookie}; HttpOnly; SameSite=Strict; Path=${this.path}`)
  }

  /** @param isTrusted whether it is for the browser that entered */
  setHeaders(response: ServerResponse, isTrusted: boolean): void {
    response.setHeader('cache-control', 'no-store')
    response.setHeader('content-security-policy', POLICY)
    response.setHeader('cross-origin-opener-policy', 'same-origin')
    response.setHeader('cross-origin-resource-policy', 'same-origin')
    response.setHeader('referrer-policy', 'no-referrer')
    response.setHeader('x-content-type-options', 'nosniff')
    if (isTrusted) response.setHeader('x-intercede-proof', this.#proof)
  }

  #hasCookie({ cookie = '' }: IncomingHttpHeaders): boolean {
    return cookie.split('; ').some((each) => isSame(each, `${COOKIE}=${this.#cookie}`))
  }
}

/** Whether a browser says that our page asks, or a link leads to our page. Programs say nothing. */
function isOwn({ 'sec-fetch-site': site, 'sec-fetch-dest': destination }: IncomingHttpHeaders, asked: string): boolean {
  return site === undefined || site === 'same-origin' || site === 'none' || (asked === '' && destination === 'document')
}
