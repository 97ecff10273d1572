import { get } from 'node:http';
import { createInterface } from 'node:readline';
import type { Answer, Question } from './prober.ts';

/** Asks brokers over HTTP from inside the hosts' network, for a harness that is outside of it: a question a line, an answer a line. */
function ask({ id, url, timeoutMs }: Question): Promise<Answer> {
  return new Promise((resolve) => {
    const nobody = (): void => resolve({ id, status: 0, text: '', date: '' });
    const request = get(url, { agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve({ id, status: response.statusCode ?? 0, text, date: response.headers.date ?? '' }));
    });
    const timer = setTimeout(() => request.destroy(), timeoutMs);
    request.on('error', nobody);
    request.on('close', () => {
      clearTimeout(timer);
      nobody();
    });
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  void ask(JSON.parse(line) as Question).then((answer) => process.stdout.write(`${JSON.stringify(answer)}\n`));
}
process.exit(0);
