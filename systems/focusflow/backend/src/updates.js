// What has changed for somebody, told to every instance of the API through Redis, and by these to the browsers.
// Redis is a convenience here: without it an instance still tells the browsers that are connected to it.
import { Redis } from "ioredis";

const CHANNEL = "focusflow:updates";
const OPTIONS = { maxRetriesPerRequest: 1, enableOfflineQueue: false, commandTimeout: 1_000, retryStrategy: () => 500 };

export class Updates {
  constructor(url) {
    this.redis = connect(url);
  }

  /** Calls `onUpdate(user, update)` for each, and `onGap()` when some may have been missed. */
  listen(url, onUpdate, onGap) {
    this.onUpdate = onUpdate;
    this.subscriber = connect(url);
    let isFirst = true;
    this.subscriber.on("ready", async () => {
      await this.subscriber.subscribe(CHANNEL).catch(() => {});
      if (!isFirst) onGap();
      isFirst = false;
    });
    this.subscriber.on("message", (_channel, text) => {
      const { user, update } = JSON.parse(text);
      onUpdate(user, update);
    });
  }

  /** Tells everybody; where Redis is away, those that this instance knows. */
  async tell(user, update) {
    try {
      await this.publish(user, update);
    } catch {
      this.onUpdate?.(user, update);
    }
  }

  /** As `tell`, but throws where Redis is away. */
  async publish(user, update) {
    await this.redis.publish(CHANNEL, JSON.stringify({ user, update }));
  }

  close() {
    this.redis.disconnect();
    this.subscriber?.disconnect();
  }
}

function connect(url) {
  const redis = new Redis(url, OPTIONS);
  let said;
  redis.on("error", (error) => {
    if (said !== error.message) console.error(`redis: ${error.message || error.code}`);
    said = error.message;
  });
  redis.on("ready", () => (said = undefined));
  return redis;
}
