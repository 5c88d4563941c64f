/** How much of a value is told. */
export interface Bounds {
  /** Levels of objects within objects. Default 2. */
  depth: number
  /** Of one object, array, map or set. Default 100. */
  entries: number
  /** Characters of one string. Default 2,000. */
  string: number
  /** Characters of it all. Default 20,000. */
  total: number
}

export const BOUNDS: Bounds = { depth: 2, entries: 100, string: 2_000, total: 20_000 }

/**
 * The source of a function (value, bounds) that tells what a value is, about as `util.inspect` does. It runs on the main thread under
 * `throwOnSideEffect`, and no getter, proxy or `inspect` method of the application runs through it: it reads descriptors, and
 * takes what it calls from the built-in prototypes. Text, because a compiled function brings along its compiler's helpers.
 * V8's own `Runtime.getProperties` would do, but has no bounds: it hands over every property, and every string whole.
 */
export const DESCRIBE = String.raw`(function (root, bounds) {
  const { types } = process.getBuiltinModule('node:util')
  const state = { left: bounds.total }
  const own = (object, key) => Object.getOwnPropertyDescriptor(object, key)
  const size = kind => own(kind.prototype, 'size').get
  const length = own(Object.getPrototypeOf(Uint8Array.prototype), 'length').get
  const quote = text => text.length > bounds.string
    ? JSON.stringify(text.slice(0, bounds.string)) + '… ' + (text.length - bounds.string) + ' more characters'
    : JSON.stringify(text)
  // Neither isTypedArray, isDataView nor split() passes for free of side effects on every Node. A DataView has no indices.
  const isBytes = object => ArrayBuffer.isView(object) && own(object, 0) !== undefined
  const indent = text => {
    let [out, from] = ['', 0]
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', from)) {
      out += text.slice(from, at + 1) + '  '
      from = at + 1
    }
    return out + text.slice(from)
  }
  const plain = text => /^[A-Za-z_$][\w$]*$/.test(text)
  const named = key => typeof key === 'symbol' ? '[' + key.toString() + ']' : plain(key) ? key : quote(key)
  const classOf = object => {
    for (let at = object, steps = 0; at !== null && steps < 20; at = Object.getPrototypeOf(at), steps++) {
      if (types.isProxy(at)) return 'Object'
      const maker = own(at, 'constructor')
      if (maker === undefined || typeof maker.value !== 'function' || types.isProxy(maker.value)) continue
      const name = own(maker.value, 'name')
      if (name !== undefined && typeof name.value === 'string' && name.value !== '') return name.value
    }
    return Object.getPrototypeOf(object) === null ? '[Object: null prototype]' : 'Object'
  }
  const texts = (error, key) => {
    for (let at = error, steps = 0; at !== null && !types.isProxy(at) && steps < 20; at = Object.getPrototypeOf(at), steps++) {
      const found = own(at, key)
      if (found !== undefined) return typeof found.value === 'string' ? found.value : ''
    }
    return ''
  }
  const flat = object => {
    if (typeof object === 'function') {
      const name = own(object, 'name')
      const text = name !== undefined && typeof name.value === 'string' && name.value !== '' ? ': ' + name.value : ' (anonymous)'
      return (Function.prototype.toString.call(object).startsWith('class') ? '[class' : '[Function') + text + ']'
    }
    if (types.isDate(object)) {
      const time = Date.prototype.getTime.call(object)
      return time === time ? Date.prototype.toISOString.call(object) : 'Invalid Date'
    }
    if (types.isNativeError(object)) {
      const message = texts(object, 'message')
      return '[' + (texts(object, 'name') || classOf(object)) + (message === '' ? '' : ': ' + message.slice(0, bounds.string)) + ']'
    }
  }
  const parts = (object, depth) => {
    const list = []
    const add = make => {
      if (list.length < bounds.entries && state.left > 0) list.push(make())
    }
    const more = total => {
      if (total > list.length) list.push('… ' + (total - list.length) + ' more')
    }
    if (types.isMap(object)) {
      const all = Map.prototype.entries.call(object)
      const total = size(Map).call(object)
      for (let i = 0; i < total && i < bounds.entries && state.left > 0; i++) {
        const entry = all.next().value
        add(() => tell(entry[0], depth - 1) + ' => ' + tell(entry[1], depth - 1))
      }
      more(total)
    } else if (types.isSet(object)) {
      const all = Set.prototype.values.call(object)
      const total = size(Set).call(object)
      for (let i = 0; i < total && i < bounds.entries && state.left > 0; i++) add(() => tell(all.next().value, depth - 1))
      more(total)
    } else if (isBytes(object)) {
      const total = length.call(object)
      for (let i = 0; i < total && i < bounds.entries; i++) add(() => String(object[i]))
      more(total)
    } else if (Array.isArray(object)) {
      const total = own(object, 'length').value
      for (let i = 0; i < total && i < bounds.entries && state.left > 0; i++) add(() => member(own(object, i), depth))
      more(total)
    } else {
      const keys = Reflect.ownKeys(object)
      for (let i = 0; i < keys.length && i < bounds.entries && state.left > 0; i++) {
        add(() => named(keys[i]) + ': ' + member(own(object, keys[i]), depth))
      }
      more(keys.length)
    }
    return list
  }
  const member = (found, depth) => {
    if (found === undefined) return '<empty>'
    if (found.get !== undefined) return found.set === undefined ? '[Getter]' : '[Getter/Setter]'
    return found.set === undefined ? tell(found.value, depth - 1) : '[Setter]'
  }
  const path = []
  const tell = (value, depth) => {
    const text = word(value, depth)
    state.left -= text.length
    return text
  }
  const word = (value, depth) => {
    if (typeof value === 'string') return quote(value)
    if (typeof value === 'bigint') return value.toString() + 'n'
    if (typeof value === 'symbol') return value.toString()
    if (typeof value === 'number' && Object.is(value, -0)) return '-0'
    if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return String(value)
    if (types.isProxy(value)) return '[Proxy]'
    const short = flat(value)
    if (short !== undefined) return short
    const name = classOf(value)
    const list = Array.isArray(value) || isBytes(value)
    const count = types.isMap(value) ? size(Map).call(value) : types.isSet(value) ? size(Set).call(value)
      : isBytes(value) ? length.call(value) : Array.isArray(value) ? own(value, 'length').value : undefined
    if (path.includes(value)) return '[Circular]'
    if (depth < 0) return count === undefined ? '[' + name + ']' : '[' + name + '(' + count + ')]'
    path.push(value)
    const all = parts(value, depth)
    path.pop()
    const head = name === 'Object' || (name === 'Array' && list) ? '' : name + (count === undefined ? '' : '(' + count + ')') + ' '
    const [open, close] = list ? ['[', ']'] : ['{', '}']
    if (all.length === 0) return head + open + close
    const line = head + open + ' ' + all.join(', ') + ' ' + close
    if (line.length <= 76 && !line.includes('\n')) return line
    return head + open + '\n  ' + indent(all.join(',\n')) + '\n' + close
  }
  const text = tell(root, bounds.depth)
  return text.length > bounds.total ? text.slice(0, bounds.total) + '… cut' : text
})`
