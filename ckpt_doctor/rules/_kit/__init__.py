"""The code that rules share. The rules themselves are the other files of the room above."""
