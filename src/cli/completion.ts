import type { Command } from 'commander'
import { act } from './act.ts'
import { usage } from './failure.ts'
import type { Io } from './io.ts'

/** What can follow a command. */
interface Word {
  word: string
  says: string
  /** An option that wants a value. */
  value?: boolean
}

interface Place {
  /** `lameduck ops heap`. */
  path: string
  words: Word[]
}

/** Every command, with what can follow it: taken from commander's own tree, so that it cannot differ. */
function places(command: Command, above: readonly Word[] = [], path = command.name()): Place[] {
  const own = command.options.filter(({ hidden }) => !hidden).flatMap(({ short, long, description, required, optional }) =>
    [short, long].filter(word => word !== undefined).map(word => ({ word, says: description, value: required || optional })))
  // An option of a command holds behind the commands beneath it as well.
  const options = [...own, ...above.filter(({ word }) => !own.some(one => one.word === word))]
  const commands = command.commands.map(one => ({ word: one.name(), says: one.description() }))
  const help = [{ word: '--help', says: 'how to use it' }]
  return [{ path, words: [...commands, ...options, ...help] }, ...command.commands.flatMap(one => places(one, path.includes(' ') ? options : [], `${path} ${one.name()}`))]
}

const quote = (text: string) => `'${text.replaceAll("'", String.raw`'\''`)}'`

function bash(all: Place[]): string {
  return `# bash completion of lameduck: source <(lameduck completion bash)
_lameduck() {
  local path=lameduck word i words
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    case "$path $word" in
      ${all.slice(1).map(({ path }) => quote(path)).join('|')}) path="$path $word" ;;
    esac
  done
  case "$path" in
${all.map(({ path, words }) => `    ${quote(path)}) words=${quote(words.map(({ word }) => word).join(' '))} ;;`).join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _lameduck lameduck
`
}

function zsh(all: Place[]): string {
  const described = (words: Word[]) => words.map(({ word, says }) => quote(`${word.replaceAll(':', String.raw`\:`)}:${says}`)).join(' ')
  return `#compdef lameduck
# zsh completion of lameduck: lameduck completion zsh > "\${fpath[1]}/_lameduck"
_lameduck() {
  local lameduck_path=lameduck word
  local -a candidates
  for word in "\${(@)words[2,CURRENT-1]}"; do
    case "$lameduck_path $word" in
      ${all.slice(1).map(({ path }) => `(${quote(path)})`).map(text => text.slice(1, -1)).join('|')}) lameduck_path="$lameduck_path $word" ;;
    esac
  done
  case "$lameduck_path" in
${all.map(({ path, words }) => `    ${quote(path)}) candidates=(${described(words)}) ;;`).join('\n')}
  esac
  _describe lameduck candidates || _files
}
if [ "$funcstack[1]" = _lameduck ]; then _lameduck "$@"; else compdef _lameduck lameduck; fi
`
}

const fishQuote = (text: string) => `'${text.replaceAll('\\', String.raw`\\`).replaceAll("'", String.raw`\'`)}'`

function fish(all: Place[]): string {
  const line = (path: string, { word, says, value }: Word) => {
    const name = word.startsWith('--') ? `-l ${word.slice(2)}` : word.startsWith('-') ? `-s ${word.slice(1)}` : `-f -a ${word}`
    return `complete -c lameduck -n ${fishQuote(`__lameduck_at '${path}'`)} ${name}${value ? ' -r' : ''} -d ${fishQuote(says)}`
  }
  return `# fish completion of lameduck: lameduck completion fish > ~/.config/fish/completions/lameduck.fish
function __lameduck_at
  set -l path lameduck
  for word in (commandline -opc)[2..-1]
    switch "$path $word"
      case ${all.slice(1).map(({ path }) => fishQuote(path)).join(' ')}
        set path "$path $word"
    end
  end
  test "$path" = "$argv[1]"
end
${all.flatMap(({ path, words }) => words.map(word => line(path, word))).join('\n')}
`
}

const SHELLS: Record<string, (all: Place[]) => string> = { bash, zsh, fish }

/** `lameduck completion`. */
export function addCompletion(program: Command, io: Io): void {
  program.command('completion <shell>')
    .description('print a completion script for bash, zsh or fish')
    .addHelpText('after', `
Examples:
  source <(lameduck completion bash)                                   # in ~/.bashrc
  lameduck completion zsh > "\${fpath[1]}/_lameduck"
  lameduck completion fish > ~/.config/fish/completions/lameduck.fish
`)
    .action(act(io, async (desk, _, shell = '') => {
      const write = Object.hasOwn(SHELLS, shell) ? SHELLS[shell] : undefined
      if (!write) throw usage(`the shell is '${shell}'; allowed: ${Object.keys(SHELLS).join(', ')}`)
      await desk.print(write(places(program)))
    }))
}
