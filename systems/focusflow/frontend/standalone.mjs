// After `next build`: completes the folder that is carried to other environments, and takes the folder it was built in
// out of it. Where it will run, that is no folder at all.
import { cpSync, readFileSync, writeFileSync } from "node:fs";

const to = ".next/standalone";
cpSync(".next/static", `${to}/.next/static`, { recursive: true });
for (const name of ["server.js", ".next/required-server-files.json"]) {
  const text = readFileSync(`${to}/${name}`, "utf8");
  writeFileSync(`${to}/${name}`, text.replaceAll(JSON.stringify(process.cwd()), '"."'));
}
