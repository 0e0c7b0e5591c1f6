import { metricsText } from '../reader/metrics.ts'
import { openFeed } from './open-feed.ts'
import { print } from './print.ts'

export function metricsCommand({ feed: path }: { readonly feed?: string }): void {
  using feed = openFeed(path)
  print(metricsText(feed))
}
