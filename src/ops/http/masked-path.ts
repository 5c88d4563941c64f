import { printable } from '../../core/printable.ts'

/** A path of somebody who is refused: what may be a token that went astray is left out. */
export function maskedPath(path: string): string {
  return printable(path.slice(0, 200)).replace(/[A-Za-z0-9\-._~+=%]{32,}/g, '…')
}
