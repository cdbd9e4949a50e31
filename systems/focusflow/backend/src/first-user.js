// Run before a new version starts: makes the first user, where one is named and not there yet.
import { Database } from "./database.js";
import { register } from "./people.js";
import { settings } from "./settings.js";

const { FIRST_USER: email, FIRST_USER_PASSWORD: password } = process.env;
if (email && password) {
  const database = new Database(settings("first-user").databaseUrl, 1);
  const made = await register(database, email.toLowerCase(), password);
  console.log(made ? `made ${email}` : `${email} is there already`);
  await database.close();
}
