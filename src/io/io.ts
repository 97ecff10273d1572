import type { Clock } from './clock.ts';
import type { Disk } from './disk.ts';
import type { Net } from './net.ts';
import type { Random } from './random.ts';

/** All that a broker asks of the world. `nodeIo()` makes the real one, the simulator its own. */
export interface Io {
  readonly clock: Clock;
  readonly random: Random;
  readonly disk: Disk;
  readonly net: Net;
}
