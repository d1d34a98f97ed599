"""Other people's code: how it is named, run and kept from doing harm."""
