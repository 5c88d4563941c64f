import type { IncomingMessage } from 'node:http'

/** One event of a stream. */
export interface ServerEvent {
  event: string
  data: string
}

/** The events of a `text/event-stream`. @see https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation */
export async function* events(answer: IncomingMessage): AsyncGenerator<ServerEvent> {
  let [event, data, rest]: [string, string[], string] = ['', [], '']
  answer.setEncoding('utf8')
  for await (const chunk of answer as AsyncIterable<string>) {
    const lines = `${rest}${chunk}`.split(/\r\n|\n|\r(?!$)/)
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield { event: event || 'message', data: data.join('\n') }
        ;[event, data] = ['', []]
        continue
      }
      const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/.exec(line) ?? []
      if (field === 'event') event = value
      else if (field === 'data') data.push(value)
    }
  }
}
