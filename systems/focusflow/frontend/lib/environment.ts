// Where this was built for. `next build` puts these values into the files that browsers get, so they are of one
// environment, and so is the artifact: Towpath builds one for each.

/** The name of the environment. */
export const ENVIRONMENT = process.env.NEXT_PUBLIC_ENVIRONMENT ?? "local";

/** Where people reach it. */
export const SITE_URL = process.env.NEXT_PUBLIC_SITE_URL ?? "http://127.0.0.1:8080";
