import type { ContainerView } from '../reader/container-view.ts'
import { shortId } from './open-feed.ts'

/** Says that what is listed of the refusals of a container is not all there was. */
export const saidDropped = ({ id, droppedRefusals }: ContainerView): string =>
  `${shortId(id)}: ${droppedRefusals} more ${droppedRefusals === 1 ? 'kind' : 'kinds'} of refusals made room for later ones`
