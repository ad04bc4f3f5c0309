"""``cvkan-explain``: what a trained network's decisions rest on. A method is one file here and one in conf/method/."""
