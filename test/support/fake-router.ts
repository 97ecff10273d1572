import type { Link } from '../../src/client/link.ts';
import type { ProducerOptions } from '../../src/client/options.ts';
import { Producer } from '../../src/client/producer.ts';
import type { KnownTopic, Router } from '../../src/client/router.ts';
import { configuredQueues } from '../../src/client/selector.ts';
import type { ManualClock } from './manual-clock.ts';
import { SeededRandom } from './scripted-broker.ts';

/** The part of a Router that a producer uses. */
type Routes = Pick<Router, 'topic' | 'find' | 'isGone' | 'leader' | 'term' | 'suspect' | 'onChange'>;

/** What a test's leader of a broker group has of a Link. */
export type FakeLink = Pick<Link, 'ready' | 'bufferedBytes'> & { readonly hello: { readonly sendWindowBytes: number } };

export interface FakeRoutesOptions {
  /** Of topic `t` on each broker group. */
  readonly queues?: number;
  readonly suspect?: () => void;
  /** What all leaders together say of the topic. */
  readonly isGone?: () => Promise<boolean>;
}

/** A producer whose router knows topic `t` on these broker groups, each behind a leader of the test's own, for good. */
export function producerTo(
  clock: ManualClock,
  leaders: ReadonlyMap<string, FakeLink>,
  { queues = 1, suspect = () => {}, isGone = () => Promise.resolve(false) }: FakeRoutesOptions = {},
  options: ProducerOptions = {},
): Producer {
  const placement = [...leaders.keys()].map((brokerName) => ({ brokerName, queues }));
  const route = { topic: 't', topicId: 1, version: 1, perm: 6, messageType: 'normal', placement } as const;
  const known: KnownTopic = { route, queues: configuredQueues(route) };
  const router: Routes = {
    topic: () => known,
    find: () => Promise.resolve(known),
    leader: (brokerName) => leaders.get(brokerName) as unknown as Link,
    isGone,
    term: () => 1,
    suspect,
    onChange: () => () => true,
  };
  return new Producer({ clock, random: new SeededRandom(), net: null as never }, router as Router, options);
}
