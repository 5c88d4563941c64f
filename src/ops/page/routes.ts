import { readFileSync } from 'node:fs'
import { Problem } from '../http/problem.ts'
import type { Reply, Route } from '../http/route.ts'

/** Nothing but the page's own files, nothing inline, framed by nobody. */
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const files = { '/': 'page.html', '/page.js': 'page.js', '/page.css': 'page.css' }
const types = { html: 'text/html; charset=utf-8', js: 'text/javascript; charset=utf-8', css: 'text/css; charset=utf-8' }

/** Beside this file; in the package, in a folder beside the chunks. */
function load(file: string): Buffer {
  for (const folder of ['./', './ops-page/']) {
    try {
      return readFileSync(new URL(`${folder}${file}`, import.meta.url))
    } catch {
      // Perhaps in the other one.
    }
  }
  throw new Problem(501, 'ERR_LAMEDUCK_OPS_PAGE', 'the files of the page are not there: was lameduck bundled? Allowed: keep it external', { file })
}

/** The page. It holds nothing by itself: what it shows it asks for, with the token that it is given. */
export function pageRoutes(): Route[] {
  return Object.entries(files).map(([path, file]): Route => {
    const type = types[file.split('.')[1] as keyof typeof types]
    return {
      method: 'GET',
      path,
      scope: null,
      summary: path === '/' ? 'The page' : `Of the page: ${file}`,
      problems: { 501: ['ERR_LAMEDUCK_OPS_PAGE'] },
      success: { status: 200, types: [type.split(';')[0] as string], description: 'A static file' },
      handler: (): Reply => ({ body: load(file), type, headers: { 'Content-Security-Policy': POLICY } }),
    }
  })
}
