import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

export default {
  // A folder with all that it takes to run: what is carried to other environments.
  output: "standalone",
  outputFileTracingRoot: here,
  turbopack: { root: here },
  // There are no pictures to make smaller, so no program for that is carried either.
  images: { unoptimized: true },
  outputFileTracingExcludes: { "*": ["node_modules/sharp/**", "node_modules/@img/**"] },
  poweredByHeader: false,
  // What was built stays as it is, whoever runs it.
  experimental: { isrFlushToDisk: false },
};
