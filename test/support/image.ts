// Makes OCI archives layer by layer: for tests of engines that unpack an image.

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

interface Blob {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

const machines: Record<string, string> = { x64: 'amd64', arm64: 'arm64' }

/**
 * Makes an OCI archive by hand, of directories that are its layers, the lowest first: what engines import without a
 * registry, and with whatever a layer may hold.
 *
 * @param folder where the archive and its parts are made
 * @param name the whole reference, such as `localhost/test:latest`
 * @param command what its containers run unless they are told otherwise
 * @returns the archive's path
 * @see opencontainers/image-spec image-layout.md
 */
export function makeImage(
  folder: string,
  name: string,
  layers: readonly string[],
  command: readonly string[] = ['sh'],
): string {
  const layout = join(folder, 'layout')
  const blobs = join(layout, 'blobs/sha256')
  mkdirSync(blobs, { recursive: true })
  const put = (bytes: Buffer, kind: string): Blob => {
    const hash = createHash('sha256').update(bytes).digest('hex')
    writeFileSync(join(blobs, hash), bytes)
    return { mediaType: `application/vnd.oci.image.${kind}`, digest: `sha256:${hash}`, size: bytes.length }
  }
  const json = (value: object, kind: string): Blob => put(Buffer.from(JSON.stringify(value)), `${kind}.v1+json`)

  const tars = layers.map((layer, index) => {
    const tar = join(folder, `layer-${index}.tar`)
    execFileSync('tar', ['-C', layer, '--numeric-owner', '--owner=0', '--group=0', '-cf', tar, '.'])
    return put(readFileSync(tar), 'layer.v1.tar')
  })
  const config = json(
    {
      ...{ architecture: machines[process.arch], os: 'linux', config: { Env: ['PATH=/bin'], Cmd: command } },
      rootfs: { type: 'layers', diff_ids: tars.map(({ digest }) => digest) },
    },
    'config',
  )
  const manifest = json({ schemaVersion: 2, config, layers: tars }, 'manifest')
  const annotations = { 'org.opencontainers.image.ref.name': name, 'io.containerd.image.name': name }
  writeFileSync(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
  writeFileSync(
    join(layout, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }),
  )
  const archive = join(folder, 'image.tar')
  execFileSync('tar', ['-C', layout, '-cf', archive, '.'])
  return archive
}
