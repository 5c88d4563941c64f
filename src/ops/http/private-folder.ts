import { lstatSync, mkdirSync, realpathSync, statSync, type Stats } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { refusal } from '../refusal.ts'

/** Who may change what a folder's entries are, and so lead us elsewhere. */
function checkAncestor(path: string, stats: Stats, dir: string): void {
  const { mode, uid, gid } = stats
  const refuse = (what: string): never => {
    throw refusal('ERR_LAMEDUCK_OPS_FOLDER', `${dir} cannot be kept private: ${path} ${what}`)
  }
  if (uid !== process.getuid?.() && uid !== 0) return refuse(`belongs to user ${uid}`)
  if (stats.isSymbolicLink()) return
  // In a sticky folder, as /tmp is, only an entry's owner can rename it.
  const sticky = (mode & 0o1000) !== 0
  const shared = (mode & 0o002) !== 0 || ((mode & 0o020) !== 0 && gid !== process.getgid?.() && gid !== 0)
  if (shared && !sticky) return refuse(`can be written by others (mode 0${(mode & 0o7777).toString(8)})`)
}

/** All folders above, nearest last. */
function above(path: string): string[] {
  const parent = dirname(path)
  return parent === path ? [] : [...above(parent), parent]
}

/**
 * A folder that only this user can enter: made with its parents (0700 each) if it is not there. What is created in it is never open to
 * others for a moment, whatever the umask is.
 *
 * @throws {LameduckError} `ERR_LAMEDUCK_OPS_FOLDER`: it is a symbolic link or no folder, belongs to somebody else, is open to others, lies where others
 *   could put another in its place, or cannot be made. (On Windows only the latter: there are no modes.)
 */
export function privateFolder(path: string): string {
  const dir = resolve(path)
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // It is there, and no folder: said better below.
    if (code !== 'EEXIST') throw refusal('ERR_LAMEDUCK_OPS_FOLDER', `the folder ${dir} cannot be made (${code})`)
  }
  if (!process.getuid) return dir
  const stats = lstatSync(dir)
  const refuse = (what: string): never => {
    throw refusal('ERR_LAMEDUCK_OPS_FOLDER', `${dir} ${what}; allowed: a folder of user ${process.getuid?.()}, closed to others (chmod 700)`)
  }
  if (stats.isSymbolicLink()) return refuse('is a symbolic link')
  if (!stats.isDirectory()) return refuse('is no folder')
  if (stats.uid !== process.getuid()) return refuse(`belongs to user ${stats.uid}`)
  if ((stats.mode & 0o077) !== 0) return refuse(`is open to others (mode 0${(stats.mode & 0o7777).toString(8)})`)
  // As it is written, for a link on the way that somebody else could turn; and as it is.
  for (const path of new Set([...above(dir), ...above(realpathSync(dir))])) checkAncestor(path, lstatSync(path), dir)
  return dir
}

/**
 * A folder that somebody chose for a file of ours: made (0700) if it is not there. A link, other owners and a group that may write to it, as of a
 * volume in Kubernetes, are theirs to decide; that everybody may rename what is in it is nobody's wish.
 *
 * @throws {LameduckError} `ERR_LAMEDUCK_OPS_FOLDER`: everybody can write to it, and it is not sticky. (Not on Windows.)
 */
export function chosenFolder(path: string): string {
  const dir = resolve(path)
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const { mode } = statSync(dir)
  if (process.getuid && (mode & 0o1002) === 0o002) {
    throw refusal('ERR_LAMEDUCK_OPS_FOLDER', `${dir} can be written by everybody (mode 0${(mode & 0o7777).toString(8)}); allowed: a folder that is not, or a sticky one`)
  }
  return dir
}
