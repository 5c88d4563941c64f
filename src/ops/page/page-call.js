// Asks the endpoint. The token is in this module's closure and nowhere else: not in the URL, no storage, no cookie.
let token = ''

export const hold = given => {
  token = given
}

/** Why there is no answer, or none that was wished for. */
class Refused extends Error {
  constructor(message, status, code) {
    super(message)
    this.status = status
    this.code = code
  }
}

/** Relative, so that it works under any prefix. */
const send = (path, how) => fetch(path.slice(1), {
  ...how,
  headers: { Authorization: `Bearer ${token}` },
  cache: 'no-store',
  credentials: 'omit',
  redirect: 'error',
})

async function problem(response) {
  const { detail = `${response.status} ${response.statusText}`, code, retryAfterMs } = await response.json().catch(() => ({}))
  const again = retryAfterMs === undefined ? '' : `; again in ${Math.ceil(retryAfterMs / 1_000)} s`
  return new Refused(`${detail}${again}`, response.status, code)
}

/** @returns The JSON of the answer. @param timeoutMs 0 waits for ever: a drain takes its time. */
export async function ask(path, { method = 'GET', timeoutMs = 10_000 } = {}) {
  let response
  try {
    response = await send(path, { method, ...(timeoutMs > 0 && { signal: AbortSignal.timeout(timeoutMs) }) })
  } catch {
    throw new Refused('no answer')
  }
  if (!response.ok) throw await problem(response)
  return response.status === 204 ? undefined : response.json()
}

/** Puts a file where the browser puts downloads. */
export async function download({ name, encoding }) {
  const response = await send(`/artifacts/${encodeURIComponent(name)}`, {})
  if (!response.ok) throw await problem(response)
  const link = document.createElement('a')
  link.href = URL.createObjectURL(await response.blob())
  // The browser has taken a content coding off; a file that is compressed by itself keeps its name.
  link.download = encoding === 'gzip' && response.headers.get('content-encoding') === 'gzip' ? name.replace(/\.gz$/, '') : name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
}
