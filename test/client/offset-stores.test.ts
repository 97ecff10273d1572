import { describe, expect, test } from 'vitest';
import { FileOffsetStore } from '../../src/client/file-offset-store.ts';
import type { Timer } from '../../src/io/clock.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { MemoryDisk } from '../support/memory-disk.ts';
import { SeededRandom } from '../support/scripted-broker.ts';
import { hookedDisk, tempDisk } from '../support/temp-disk.ts';

const OWNER = { group: 'config', instanceName: 'web-1' };
const queue = (queueId: number, topicId = 7) => ({ topic: 't', topicId, brokerName: 'a', queueId });
/** Every operation completes in the next turn. */
class Turns extends ManualClock {
  override setTimer(_delayMs: number, callback: () => void): Timer {
    setImmediate(callback);
    return {};
  }
}
const memoryDisk = (): MemoryDisk => new MemoryDisk({ clock: new Turns(), random: new SeededRandom() });
const FILE = '/offsets/web-1/config/offsets.json';

describe('F18 offsets of a broadcasting member in a file', () => {
  test('are read back by the next process, per queue of this very topic, group and instance', async () => {
    const { disk, directory } = tempDisk();
    const store = new FileOffsetStore(`${directory}/offsets`, disk);
    expect(await store.load(OWNER, [queue(0)])).toEqual([-1]);
    await store.save(OWNER, [
      { ...queue(0), offset: 5 },
      { ...queue(1), offset: 9 },
    ]);
    await store.save(OWNER, [{ ...queue(0), offset: 6 }]);
    const next = new FileOffsetStore(`${directory}/offsets`, disk);
    expect(await next.load(OWNER, [queue(1), queue(0), queue(2), queue(0, 8)])).toEqual([9, 6, -1, -1]);
    expect(await next.load({ ...OWNER, group: 'other' }, [queue(0)])).toEqual([-1]);
    expect(await next.load({ ...OWNER, instanceName: 'web-2' }, [queue(0)])).toEqual([-1]);
  });

  test('after a crash at any point of a save it is the last state or the one before', async () => {
    const states = new Set<string>();
    for (let dieAt = 1; dieAt <= 40; dieAt++) {
      const memory = memoryDisk();
      const before = new FileOffsetStore('/offsets', memory);
      await before.save(OWNER, [{ ...queue(0), offset: 5 }]);
      let operations = 0;
      const dying = hookedDisk(memory, () => {
        if (++operations === dieAt) throw new Error('killed');
      });
      const store = new FileOffsetStore('/offsets', dying);
      operations = -1_000;
      await store.load(OWNER, [queue(0)]);
      operations = 0;
      await store.save(OWNER, [{ ...queue(0), offset: 6 }]).catch(() => {});
      memory.crash();
      const [offset] = await new FileOffsetStore('/offsets', memory).load(OWNER, [queue(0)]);
      states.add(String(offset));
      expect([5, 6]).toContain(offset);
      if (operations < dieAt) break;
    }
    expect([...states].sort()).toEqual(['5', '6']);
  });

  test('a damaged file is an error, not a fresh start', async () => {
    const memory = memoryDisk();
    await new FileOffsetStore('/offsets', memory).save(OWNER, [{ ...queue(0), offset: 512 }]);
    const bytes = new TextDecoder().decode(memory.peek(FILE));
    memory.poke(FILE, bytes.indexOf('512'), new TextEncoder().encode('513'));
    await expect(new FileOffsetStore('/offsets', memory).load(OWNER, [queue(0)])).rejects.toThrow('cannot be read');
    memory.poke(FILE, 0, new TextEncoder().encode('x'));
    await expect(new FileOffsetStore('/offsets', memory).load(OWNER, [queue(0)])).rejects.toThrow(FILE);
    await memory.remove(FILE);
    expect(await new FileOffsetStore('/offsets', memory).load(OWNER, [queue(0)])).toEqual([-1]);
  });
});
