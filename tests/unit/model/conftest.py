from hypothesis import settings

# No deadlines: these tests run beside others on small machines, and say what is right, not how fast.
settings.register_profile("model", deadline=None, max_examples=40)
settings.load_profile("model")
