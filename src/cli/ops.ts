import { Option, type Command } from 'commander'
import { number } from './act.ts'
import type { Io } from './io.ts'
import { addControl } from './ops-control.ts'
import { addFiles } from './ops-files.ts'
import { addGc } from './ops-gc.ts'
import { addHeap } from './ops-heap.ts'
import { addInside } from './ops-inside.ts'
import { addLook } from './ops-look.ts'
import { ownFolder } from './target.ts'

/** `lameduck ops …`: the maintenance endpoint of a running process. */
export function addOps(program: Command, io: Io): void {
  const ops = program.command('ops')
    .description('look into a running process through its maintenance endpoint')
    .addOption(new Option('--socket <path>', 'the endpoint is on this unix socket (env: LAMEDUCK_OPS_SOCKET)'))
    .addOption(new Option('--url <url>', 'the endpoint is there, http:// or https:// (env: LAMEDUCK_OPS_URL)'))
    .addOption(new Option('--pid <pid>', 'the endpoint of this process, where it is by default').argParser(number('--pid', { least: 1, whole: true })))
    .option('--token-file <file>', 'file with the bearer token, - is stdin; else the token itself is taken from LAMEDUCK_OPS_TOKEN')
    .option('--ca <file>', 'PEM: authorities to trust, for https')
    .option('--cert <file>', 'PEM: our certificate, for mTLS')
    .option('--key <file>', 'PEM: its key')
    .option('--json', 'JSON on stdout')
    .addHelpText('after', `
Which process: --socket, --url or --pid; else LAMEDUCK_OPS_SOCKET or
LAMEDUCK_OPS_URL; else the only one of yours that has an endpoint in
${ownFolder()}.

There is no option for the token itself: every user of a machine can read
command lines in its process list, and the shell keeps them in its history.

Examples:
  lameduck ops state                          what it does
  lameduck ops connections                    who holds the drain
  lameduck ops stack                          where it hangs
  lameduck ops heap snapshot --isolate        a snapshot that no user waits for
  lameduck ops gc --follow                    each major garbage collection
  LAMEDUCK_OPS_TOKEN=$(pass ops) lameduck ops --url https://10.0.0.7:9000 info
`)
  addLook(ops, io)
  addGc(ops, io)
  addHeap(ops, io)
  addInside(ops, io)
  addFiles(ops, io)
  addControl(ops, io)
}
