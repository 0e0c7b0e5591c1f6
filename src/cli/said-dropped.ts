import type { ContainerView } from '../reader/container-view.ts'
import { shownContainer } from './open-feed.ts'

/** Says that what is listed of the refusals of a container is not all there was. */
export const saidDropped = ({ droppedRefusals: count, ...view }: ContainerView): string =>
  `${shownContainer(view)}: ${count} more ${count === 1 ? 'kind' : 'kinds'} of refusals made room for later ones`
