import type { Io } from '../io.ts';
import { NodeClock } from './clock.ts';
import { NodeDisk, type NodeDiskOptions } from './disk.ts';
import { NodeNet } from './net.ts';
import { NodeRandom } from './random.ts';

export interface NodeIoOptions {
  readonly disk?: NodeDiskOptions;
}

/** The real world. */
export function nodeIo(options: NodeIoOptions = {}): Io {
  return { clock: new NodeClock(), random: new NodeRandom(), disk: new NodeDisk(options.disk), net: new NodeNet() };
}
