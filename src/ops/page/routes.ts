import { readFileSync } from 'node:fs'
import { Problem } from '../http/problem.ts'
import { SCOPES, type Reply, type Route } from '../http/route.ts'

/** Nothing but the page's own files, nothing inline, framed by nobody, and no form goes anywhere: a token must not get into a URL. */
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const files = ['page.html', 'page.css', 'page.js', 'page-call.js', 'page-dom.js', 'page-memory.js', 'page-state.js', 'page-work.js']
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

/** So that the page offers only what its token allows. */
const whoami: Route = {
  method: 'GET',
  path: '/whoami',
  scope: 'read',
  summary: 'Who the caller is, and what that allows',
  success: { status: 200, types: ['application/json'], description: '`name`, `scopes`' },
  handler: ({ who }): Reply => ({ json: { name: who.name, scopes: SCOPES.filter(scope => who.scopes.has(scope)) } }),
}

/** The page. It holds nothing by itself: what it shows it asks for, with the token that it is given. */
export function pageRoutes(): Route[] {
  const pages = files.map((file): Route => {
    const type = types[file.split('.')[1] as keyof typeof types]
    const path = file === 'page.html' ? '/' : `/${file}`
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
  return [...pages, whoami]
}
