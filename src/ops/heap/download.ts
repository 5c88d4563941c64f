import type { FileHandle } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import type { Call } from '../http/route.ts'
import type { Artifact } from './artifacts.ts'
import { readAt } from './snapshot-file.ts'

const CHUNK = 65_536

/** Whether the client takes gzip as a coding of the content; to another a gzip file is a gzip file. */
const takesGzip = (accepted: string | undefined) => /(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[\d.]+\s*)?(?:,|$)/i.test(accepted ?? '')

function headersOf(artifact: Artifact, coded: boolean): Record<string, string | number> {
  const { name, bytes, sha256, type, encoding } = artifact
  const gzipFile = encoding === 'gzip' && !coded
  return {
    'Content-Type': gzipFile ? 'application/gzip' : type,
    'Content-Length': bytes,
    // Browsers and fetch() unpack what is coded: the file is then the content itself.
    'Content-Disposition': `attachment; filename="${coded ? name.replace(/\.gz$/, '') : name}"`,
    ...(coded && { 'Content-Encoding': 'gzip' }),
    ...(encoding === 'gzip' && { Vary: 'Accept-Encoding' }),
    ETag: `"${sha256}${coded ? '-gzip' : ''}"`,
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
  }
}

/** Resolves when the kernel has the bytes; false when the client has gone. */
function written(res: ServerResponse, bytes: Buffer, signal: AbortSignal): Promise<boolean> {
  return new Promise(resolve => {
    const gone = () => resolve(false)
    const done = (error?: Error | null) => {
      signal.removeEventListener('abort', gone)
      res.off('close', gone)
      resolve(!error)
    }
    if (signal.aborted || res.destroyed) return gone()
    signal.addEventListener('abort', gone, { once: true })
    res.once('close', gone)
    res.write(bytes, done)
  })
}

/**
 * Sends a file with one buffer, however slow the reader is: a stream of fresh ones would be tens of megabytes before V8 collects them.
 *
 * @returns Whether the last byte was handed to the kernel.
 */
export async function send(file: FileHandle, artifact: Artifact, { req, res, signal }: Pick<Call, 'req' | 'res' | 'signal'>): Promise<boolean> {
  const coded = artifact.encoding === 'gzip' && takesGzip(req.headers['accept-encoding'])
  res.writeHead(200, headersOf(artifact, coded))
  const buffer = Buffer.alloc(CHUNK)
  for (let position = 0; position < artifact.bytes;) {
    const filled = await readAt(file, buffer, position)
    // Shorter than it was: what has been promised cannot be kept, and the client must see that.
    if (filled === 0 || !await written(res, buffer.subarray(0, filled), signal)) {
      res.destroy()
      return false
    }
    position += filled
  }
  await new Promise<void>(resolve => {
    res.once('close', resolve)
    res.end(resolve)
  })
  return res.writableFinished
}
